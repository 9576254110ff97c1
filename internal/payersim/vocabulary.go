package payersim

// code is an entry of a code system.
type code struct{ code, display string }

// The code systems and profiles that CARIN Blue Button claims use.
const (
	carin       = "http://hl7.org/fhir/us/carin-bb/"
	carinCodes  = carin + "CodeSystem/"
	terminology = "http://terminology.hl7.org/CodeSystem/"
	usCore      = "http://hl7.org/fhir/us/core/StructureDefinition/"
	npiSystem   = "http://hl7.org/fhir/sid/us-npi"
	icd10       = "http://hl7.org/fhir/sid/icd-10-cm"
	cptSystem   = "http://www.ama-assn.org/go/cpt"
	ndcSystem   = "http://hl7.org/fhir/sid/ndc"
	posSystem   = "https://www.cms.gov/Medicare/Coding/place-of-service-codes/Place_of_Service_Code_Set"
)

var (
	familyNames = []string{
		"Abbott", "Alvarez", "Baker", "Brennan", "Castillo", "Chen", "Cohen", "Dawson", "Delgado", "Ellison", "Fischer", "Flores",
		"Garcia", "Goldberg", "Haddad", "Hayes", "Ibrahim", "Jackson", "Jensen", "Kaur", "Kowalski", "Larsen", "Lopez", "Martin",
		"Mbeki", "Moreau", "Nakamura", "Nguyen", "O'Brien", "Okafor", "Patel", "Petrov", "Quinn", "Ramirez", "Rossi", "Sanders",
		"Schmidt", "Silva", "Thompson", "Tran", "Underwood", "Vargas", "Walker", "Weiss", "Xu", "Young", "Zimmermann", "Zúñiga",
	}
	femaleNames = []string{
		"Amara", "Beatriz", "Carol", "Diane", "Elena", "Fatima", "Grace", "Hannah", "Irene", "Joan", "Keiko", "Linda",
		"Maria", "Nora", "Olga", "Patricia", "Rosa", "Susan", "Teresa", "Yvonne",
	}
	maleNames = []string{
		"Aaron", "Bruno", "Carlos", "David", "Emil", "Frank", "George", "Hassan", "Ivan", "James", "Kenji", "Luis",
		"Michael", "Noah", "Oscar", "Paul", "Robert", "Samuel", "Thomas", "William",
	}
	streets = []string{"Maple Street", "Oak Avenue", "Washington Boulevard", "Mill Road", "Lakeview Drive", "Church Street", "Elm Court"}
	cities  = []struct{ city, state, zip string }{
		{"Springfield", "MA", "01103"},
		{"Columbus", "OH", "43215"},
		{"Tucson", "AZ", "85701"},
		{"Raleigh", "NC", "27601"},
		{"Boise", "ID", "83702"},
		{"Omaha", "NE", "68102"},
		{"Richmond", "VA", "23219"},
		{"Eugene", "OR", "97401"},
		{"Albany", "NY", "12207"},
		{"El Paso", "TX", "79901"},
		{"Fresno", "CA", "93721"},
		{"Madison", "WI", "53703"},
	}
	races = []code{
		{"2106-3", "White"},
		{"2054-5", "Black or African American"},
		{"2028-9", "Asian"},
		{"1002-5", "American Indian or Alaska Native"},
	}
	specialties = []code{
		{"207Q00000X", "Family Medicine Physician"},
		{"207R00000X", "Internal Medicine Physician"},
		{"207RC0000X", "Cardiovascular Disease Physician"},
		{"208600000X", "Surgery Physician"},
		{"2085R0202X", "Diagnostic Radiology Physician"},
		{"363L00000X", "Nurse Practitioner"},
		{"225100000X", "Physical Therapist"},
		{"208D00000X", "General Practice Physician"},
	}
	diagnoses = []code{
		{"I10", "Essential (primary) hypertension"},
		{"E11.9", "Type 2 diabetes mellitus without complications"},
		{"E78.5", "Hyperlipidemia, unspecified"},
		{"J06.9", "Acute upper respiratory infection, unspecified"},
		{"M54.50", "Low back pain, unspecified"},
		{"N18.31", "Chronic kidney disease, stage 3a"},
		{"I48.91", "Unspecified atrial fibrillation"},
		{"J44.9", "Chronic obstructive pulmonary disease, unspecified"},
		{"F32.A", "Depression, unspecified"},
		{"Z00.00", "Encounter for general adult medical examination without abnormal findings"},
		{"R07.9", "Chest pain, unspecified"},
		{"K21.9", "Gastro-esophageal reflux disease without esophagitis"},
		{"E03.9", "Hypothyroidism, unspecified"},
		{"G47.33", "Obstructive sleep apnea (adult) (pediatric)"},
	}
	procedures = []code{
		{"99213", "Office or other outpatient visit, established patient, low complexity"},
		{"99214", "Office or other outpatient visit, established patient, moderate complexity"},
		{"93000", "Electrocardiogram, routine, with interpretation and report"},
		{"80053", "Comprehensive metabolic panel"},
		{"85025", "Complete blood count with automated differential"},
		{"83036", "Hemoglobin; glycosylated (A1C)"},
		{"71046", "Radiologic examination, chest; 2 views"},
		{"36415", "Collection of venous blood by venipuncture"},
		{"90686", "Influenza virus vaccine, quadrivalent, preservative free"},
		{"97110", "Therapeutic procedure, one or more areas, each 15 minutes"},
		{"45378", "Colonoscopy, flexible; diagnostic"},
	}
	drugs = []code{
		{"00071015523", "Atorvastatin calcium 20 MG Oral Tablet"},
		{"00093101601", "Metformin hydrochloride 500 MG Oral Tablet"},
		{"68180051301", "Lisinopril 10 MG Oral Tablet"},
		{"00378180310", "Levothyroxine sodium 0.05 MG Oral Tablet"},
		{"65862056090", "Amlodipine besylate 5 MG Oral Tablet"},
		{"00591079401", "Omeprazole 20 MG Delayed Release Oral Capsule"},
		{"00173068220", "Albuterol 0.09 MG/ACTUAT Metered Dose Inhaler"},
	}
	places = []code{
		{"11", "Office"},
		{"22", "On Campus-Outpatient Hospital"},
		{"23", "Emergency Room - Hospital"},
		{"21", "Inpatient Hospital"},
		{"81", "Independent Laboratory"},
		{"02", "Telehealth Provided Other than in Patient's Home"},
	}
	revenueCenters = []code{
		{"0300", "Laboratory - general classification"},
		{"0450", "Emergency room - general classification"},
		{"0320", "Radiology-diagnostic - general classification"},
		{"0250", "Pharmacy - general classification"},
		{"0120", "Room and board - semi-private two bed"},
	}
	plans = []code{
		{"HMO", "health maintenance organization policy"},
		{"PPO", "preferred provider organization policy"},
		{"POS", "point of service policy"},
		{"MCPOL", "managed care policy"},
	}
	organizationNames = []string{
		"Community Hospital", "Regional Medical Center", "Family Practice Associates", "Imaging Partners",
		"Clinical Laboratory", "Rehabilitation Center", "Pharmacy",
	}
)
