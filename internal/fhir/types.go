package fhir

import (
	"slices"
	"strings"
)

// resourceTypes lists every concrete resource type of FHIR R4 (4.0.1), R4B (4.3.0) and R5 (5.0.0). Tables are made for
// these names only, never for a string that a payer sent.
const resourceTypes = `
	Account ActivityDefinition ActorDefinition AdministrableProductDefinition AdverseEvent AllergyIntolerance Appointment
	AppointmentResponse ArtifactAssessment AuditEvent Basic Binary BiologicallyDerivedProduct
	BiologicallyDerivedProductDispense BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem
	ChargeItemDefinition Citation Claim ClaimResponse ClinicalImpression ClinicalUseDefinition CodeSystem Communication
	CommunicationRequest CompartmentDefinition Composition ConceptMap Condition ConditionDefinition Consent Contract
	Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceAssociation
	DeviceDefinition DeviceDispense DeviceMetric DeviceRequest DeviceUsage DeviceUseStatement DiagnosticReport
	DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter EncounterHistory Endpoint EnrollmentRequest
	EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceReport EvidenceVariable ExampleScenario
	ExplanationOfBenefit FamilyMemberHistory Flag FormularyItem GenomicStudy Goal GraphDefinition Group GuidanceResponse
	HealthcareService ImagingSelection ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation
	ImplementationGuide Ingredient InsurancePlan InventoryItem InventoryReport Invoice Library Linkage List Location
	ManufacturedItemDefinition Measure MeasureReport Media Medication MedicationAdministration MedicationDispense
	MedicationKnowledge MedicationRequest MedicationStatement MedicinalProduct MedicinalProductAuthorization
	MedicinalProductContraindication MedicinalProductDefinition MedicinalProductIndication MedicinalProductIngredient
	MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
	MedicinalProductUndesirableEffect MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionIntake
	NutritionOrder NutritionProduct Observation ObservationDefinition OperationDefinition OperationOutcome Organization
	OrganizationAffiliation PackagedProductDefinition Parameters Patient PaymentNotice PaymentReconciliation Permission
	Person PlanDefinition Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
	RegulatedAuthorization RelatedPerson RequestGroup RequestOrchestration Requirements ResearchDefinition
	ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter
	ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription SubscriptionStatus
	SubscriptionTopic Substance SubstanceDefinition SubstanceNucleicAcid SubstancePolymer SubstanceProtein
	SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task
	TerminologyCapabilities TestPlan TestReport TestScript Transport ValueSet VerificationResult VisionPrescription`

// tableNames maps each resource type to the name of its table.
var tableNames = func() map[string]string {
	names := make(map[string]string)
	for resourceType := range strings.FieldsSeq(resourceTypes) {
		names[resourceType] = snakeCase(resourceType)
	}
	return names
}()

// KnownType reports whether name is a resource type of FHIR R4, R4B or R5.
func KnownType(name string) bool {
	_, ok := tableNames[name]
	return ok
}

// Types returns all known resource types in alphabetical order.
func Types() []string {
	names := strings.Fields(resourceTypes)
	slices.Sort(names)
	return names
}

// TableName returns the name of the table that holds resources of the given type, in snake_case:
// explanation_of_benefit for ExplanationOfBenefit. The second result is false for an unknown type.
func TableName(resourceType string) (string, bool) {
	name, ok := tableNames[resourceType]
	return name, ok
}

func snakeCase(name string) string {
	var b strings.Builder
	for i, r := range name {
		if 'A' <= r && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
