package fhir

import "bytes"

// patientMembers names, for each type of the patient compartment, the top-level members that hold a reference to the
// patient, most specific first. The first one that yields a patient decides. The lists follow the compartment
// definition "Patient" of R4 and R5, reduced to the member that says whom the resource is about (the subject), not who
// else took part in it (a performer, an author). A dot descends one level; an array yields its first patient.
var patientMembers = map[string][]string{
	"Account":                     {"subject"},
	"AdverseEvent":                {"subject"},
	"AllergyIntolerance":          {"patient"},
	"Appointment":                 {"subject", "participant.actor"},
	"AppointmentResponse":         {"actor"},
	"AuditEvent":                  {"patient", "entity.what"},
	"Basic":                       {"subject"},
	"BodyStructure":               {"patient"},
	"CarePlan":                    {"subject"},
	"CareTeam":                    {"subject"},
	"ChargeItem":                  {"subject"},
	"Claim":                       {"patient"},
	"ClaimResponse":               {"patient"},
	"ClinicalImpression":          {"subject"},
	"Communication":               {"subject"},
	"CommunicationRequest":        {"subject"},
	"Composition":                 {"subject"},
	"Condition":                   {"subject"},
	"Consent":                     {"patient", "subject"},
	"Contract":                    {"subject"},
	"Coverage":                    {"beneficiary"},
	"CoverageEligibilityRequest":  {"patient"},
	"CoverageEligibilityResponse": {"patient"},
	"DetectedIssue":               {"patient", "subject"},
	"Device":                      {"patient"},
	"DeviceAssociation":           {"subject"},
	"DeviceDispense":              {"subject"},
	"DeviceRequest":               {"subject"},
	"DeviceUsage":                 {"patient"},
	"DeviceUseStatement":          {"subject"},
	"DiagnosticReport":            {"subject"},
	"DocumentManifest":            {"subject"},
	"DocumentReference":           {"subject"},
	"Encounter":                   {"subject"},
	"EncounterHistory":            {"subject"},
	"EnrollmentRequest":           {"candidate"},
	"EpisodeOfCare":               {"patient"},
	"ExplanationOfBenefit":        {"patient"},
	"FamilyMemberHistory":         {"patient"},
	"Flag":                        {"subject"},
	"GenomicStudy":                {"subject"},
	"Goal":                        {"subject"},
	"GuidanceResponse":            {"subject"},
	"ImagingSelection":            {"subject"},
	"ImagingStudy":                {"subject"},
	"Immunization":                {"patient"},
	"ImmunizationEvaluation":      {"patient"},
	"ImmunizationRecommendation":  {"patient"},
	"Invoice":                     {"subject"},
	"List":                        {"subject"},
	"MeasureReport":               {"subject"},
	"Media":                       {"subject"},
	"MedicationAdministration":    {"subject"},
	"MedicationDispense":          {"subject"},
	"MedicationRequest":           {"subject"},
	"MedicationStatement":         {"subject"},
	"MolecularSequence":           {"patient", "subject"},
	"NutritionIntake":             {"subject"},
	"NutritionOrder":              {"patient", "subject"},
	"Observation":                 {"subject"},
	"Person":                      {"link.target"},
	"Procedure":                   {"subject"},
	"Provenance":                  {"patient", "target"},
	"QuestionnaireResponse":       {"subject"},
	"RelatedPerson":               {"patient"},
	"RequestGroup":                {"subject"},
	"RequestOrchestration":        {"subject"},
	"ResearchSubject":             {"individual", "subject"},
	"RiskAssessment":              {"subject"},
	"Schedule":                    {"actor"},
	"ServiceRequest":              {"subject"},
	"Specimen":                    {"subject"},
	"SupplyDelivery":              {"patient"},
	"SupplyRequest":               {"deliverFor", "requester"},
	"Task":                        {"for"},
	"VisionPrescription":          {"patient"},
}

// patientID returns the logical id of the patient that reference names, or nil. Relative, absolute and versioned
// references to a Patient count; so do urn:uuid references, which do not name their target's type, because these members
// nearly always name a patient. Fragments, identifiers and references to other types do not (FHIR R4, References; Bulk Data 3.0, Kick-off Request).
func patientID(reference []byte) []byte {
	if rest, ok := bytes.CutPrefix(reference, []byte("urn:uuid:")); ok {
		return rest
	}
	if i := bytes.Index(reference, []byte("/_history/")); i >= 0 {
		reference = reference[:i]
	}
	slash := bytes.LastIndexByte(reference, '/')
	if slash < 0 {
		return nil
	}
	id, path := reference[slash+1:], reference[:slash]
	if string(path) != "Patient" && !bytes.HasSuffix(path, []byte("/Patient")) {
		return nil
	}
	if len(id) == 0 {
		return nil
	}
	return id
}
