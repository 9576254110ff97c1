package payersim

import "strconv"

// claimKind is one of the four claim types of CARIN Blue Button.
type claimKind struct {
	profile  string
	claim    code   // code of the claim-type code system
	subtype  string // inpatient or outpatient, "" for the other two
	minItems int
	maxItems int
}

var claimKinds = []claimKind{
	{"Professional-NonClinician", code{"professional", "Professional"}, "", 1, 2},
	{"Outpatient-Institutional", code{"institutional", "Institutional"}, "outpatient", 1, 2},
	{"Inpatient-Institutional", code{"institutional", "Institutional"}, "inpatient", 1, 3},
	{"Pharmacy", code{"pharmacy", "Pharmacy"}, "", 1, 1},
}

// sums are the amounts of a claim in cents.
type sums struct{ submitted, eligible, paid, patient int }

func (s *sums) add(o sums) {
	s.submitted += o.submitted
	s.eligible += o.eligible
	s.paid += o.paid
	s.patient += o.patient
}

// roll is one item's amounts.
func (s *sums) roll(d *dice) {
	s.submitted = d.between(1_500, 250_000)
	s.eligible = s.submitted * d.between(40, 95) / 100
	s.patient = s.eligible * d.roll(40) / 100
	s.paid = s.eligible - s.patient
}

func (e era) renderEOB(b []byte, i int, l life, d *dice) []byte {
	ck := &claimKinds[[...]int{0, 0, 0, 0, 1, 1, 2, 3, 0, 0}[d.roll(10)]]
	pharmacy := ck.claim.code == "pharmacy"
	institutional := ck.subtype != ""
	patient := e.owner(kindEOB, i)
	provider := d.roll(e.kinds[kindPractitioner].base)
	facility := 1 + d.roll(e.kinds[kindOrganization].base-1)
	start := d.roll(5*365 + 200)
	end := start
	if ck.subtype == "inpatient" {
		end += d.between(1, 9)
	}

	b = e.head(b, kindEOB, i, l, "")
	b = b[:len(b)-len(`"]}`)] // the profile is put together of two parts
	b = append(b, carin+`StructureDefinition/C4BB-ExplanationOfBenefit-`...)
	b = append(b, ck.profile...)
	b = append(b, `|2.1.0"]},"language":"en-US","identifier":[{"type":{"coding":[{"system":"`+carinCodes+`C4BBIdentifierType","code":"uc",`+
		`"display":"Unique Claim ID"}]},"system":"https://payer.example.com/claim","value":"`...)
	b = appendDigits(b, uint64(i)+1, 13)
	b = append(b, `"}],"status":"active","type":`...)
	b = coding(b, terminology+"claim-type", ck.claim)
	if institutional {
		b = append(b, `,"subType":{"coding":[{"system":"`+carinCodes+`C4BBInstitutionalClaimSubType","code":"`...)
		b = append(b, ck.subtype...)
		b = append(b, `"}]}`...)
	}
	b = append(b, `,"use":"claim","patient":`...)
	b = e.reference(b, kindPatient, patient)
	b = append(b, `,"billablePeriod":`...)
	b = appendPeriod(b, start, end)
	b = append(b, `,"created":"`...)
	b = append(b, days[end+d.between(1, 30)]...)
	b = append(b, `T00:00:00-05:00","insurer":`...)
	b = e.reference(b, kindOrganization, 0)
	b = append(b, `,"provider":`...)
	if institutional || pharmacy {
		b = e.reference(b, kindOrganization, facility)
	} else {
		b = e.reference(b, kindPractitioner, provider)
	}
	b = append(b, `,"payee":{"type":{"coding":[{"system":"`+terminology+`payeetype","code":"provider","display":"Provider"}]},"party":`...)
	b = e.reference(b, kindOrganization, facility)
	b = append(b, `},"outcome":"complete","careTeam":[`...)
	b = e.appendCareTeam(b, provider, facility, pharmacy, d)
	b = append(b, `],"supportingInfo":[`...)
	b = appendSupportingInfo(b, start, end, institutional, pharmacy, d)
	b = append(b, `],"diagnosis":[`...)
	diagnosisCount := d.between(1, 3)
	b = appendDiagnoses(b, diagnosisCount, d)
	if institutional && d.roll(2) == 0 {
		b = append(b, `],"procedure":[{"sequence":1,"type":[{"coding":[{"system":"`+
			`http://terminology.hl7.org/CodeSystem/ex-procedure-type","code":"primary","display":"Primary procedure"}]}],"date":"`...)
		b = append(b, days[start]...)
		b = append(b, `T00:00:00-05:00","procedureCodeableConcept":`...)
		b = coding(b, cptSystem, pick(d, procedures))
		b = append(b, '}')
	}
	b = append(b, `],"insurance":[{"focal":true,"coverage":`...)
	b = e.reference(b, kindCoverage, patient)
	b = append(b, `}],"item":[`...)

	// A claim that is updated has been adjudicated anew: other amounts for the same services.
	amounts := e.versionDice(kindEOB, i, l)
	var total sums
	for n := range d.between(ck.minItems, ck.maxItems) {
		if n > 0 {
			b = append(b, ',')
		}
		var s sums
		s.roll(amounts)
		total.add(s)
		b = appendItem(b, n+1, min(diagnosisCount, 1+n), start, end, pharmacy, institutional, &s, d)
	}
	b = append(b, `],"total":[`...)
	b = appendTotal(b, "submitted", "Submitted Amount", total.submitted)
	b = append(b, ',')
	b = appendTotal(b, "eligible", "Eligible Amount", total.eligible)
	b = append(b, ',')
	b = appendTotal(b, "benefit", "Benefit Amount", total.paid)
	b = append(b, `],"payment":{"type":{"coding":[{"system":"`+carinCodes+`C4BBPayerClaimPaymentStatusCode","code":"paid",`+
		`"display":"Paid"}]},"date":"`...)
	b = append(b, days[min(end+amounts.between(20, 60), len(days)-1)]...)
	b = append(b, `","amount":`...)
	b = appendMoney(b, total.paid)
	return append(b, `}}`...)
}

func appendPeriod(b []byte, start, end int) []byte {
	b = append(b, `{"start":"`...)
	b = append(b, days[start]...)
	b = append(b, `","end":"`...)
	b = append(b, days[end]...)
	return append(b, `"}`...)
}

func (e era) appendCareTeam(b []byte, provider, facility int, pharmacy bool, d *dice) []byte {
	role := code{"performing", "Performing provider"}
	if pharmacy {
		role = code{"prescribing", "Prescribing provider"}
	}
	b = append(b, `{"sequence":1,"provider":`...)
	b = e.reference(b, kindPractitioner, provider)
	b = append(b, `,"responsible":true,"role":`...)
	b = coding(b, carinCodes+"C4BBClaimCareTeamRole", role)
	b = append(b, `,"qualification":`...)
	b = coding(b, "http://nucc.org/provider-taxonomy", pick(d, specialties))
	b = append(b, `},{"sequence":2,"provider":`...)
	b = e.reference(b, kindOrganization, facility)
	b = append(b, `,"role":`...)
	b = coding(b, carinCodes+"C4BBClaimCareTeamRole", code{"rendering", "Rendering provider"})
	if d.roll(3) == 0 {
		b = append(b, `},{"sequence":3,"provider":`...)
		b = e.reference(b, kindPractitioner, d.roll(e.kinds[kindPractitioner].base))
		b = append(b, `,"role":`...)
		b = coding(b, carinCodes+"C4BBClaimCareTeamRole", code{"referring", "Referring provider"})
	}
	return append(b, '}')
}

func appendSupportingInfo(b []byte, start, end int, institutional, pharmacy bool, d *dice) []byte {
	n := 0
	open := func(category, display string) {
		if n > 0 {
			b = append(b, ',')
		}
		n++
		b = append(b, `{"sequence":`...)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, `,"category":`...)
		b = coding(b, carinCodes+"C4BBSupportingInfoType", code{category, display})
	}
	open("clmrecvddate", "Claim Received Date")
	b = append(b, `,"timingDate":"`...)
	b = append(b, days[end+d.between(1, 10)]...)
	b = append(b, `"}`...)
	open("billingnetworkstatus", "Billing Network Status")
	b = append(b, `,"code":`...)
	b = coding(b, carinCodes+"C4BBPayerAdjudicationStatus", code{"innetwork", "In Network"})
	b = append(b, '}')
	if institutional {
		open("admissionperiod", "Admission Period")
		b = append(b, `,"timingPeriod":`...)
		b = appendPeriod(b, start, end)
		b = append(b, '}')
		open("discharge-status", "Discharge Status")
		b = append(b, `,"code":`...)
		b = coding(b, "https://www.nubc.org/CodeSystem/PatDischargeStatus", code{"01", "Discharged to home care or self care"})
		b = append(b, '}')
		open("drg", "DRG")
		b = append(b, `,"code":{"coding":[{"system":"https://www.cms.gov/Medicare/Medicare-Fee-for-Service-Payment/AcuteInpatientPPS/`+
			`MS-DRG-Classifications-and-Software","code":"`...)
		b = appendDigits(b, uint64(d.between(1, 998)), 3)
		b = append(b, `"}]}}`...)
	}
	if pharmacy {
		open("dayssupply", "Days Supply")
		b = append(b, `,"valueQuantity":{"value":`...)
		b = strconv.AppendInt(b, int64(30*d.between(1, 3)), 10)
		b = append(b, `,"unit":"days","system":"http://unitsofmeasure.org","code":"d"}}`...)
		open("refillnum", "Refill Number")
		b = append(b, `,"valueQuantity":{"value":`...)
		b = strconv.AppendInt(b, int64(d.roll(12)), 10)
		b = append(b, `}}`...)
		open("rxorigincode", "Rx Origin Code")
		b = append(b, `,"code":`...)
		b = coding(b, "https://www.ncpdp.org/CodeSystem/RxOriginCode", code{"3", "Electronic"})
		b = append(b, '}')
	}
	return b
}

func appendDiagnoses(b []byte, count int, d *dice) []byte {
	for n := range count {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"sequence":`...)
		b = strconv.AppendInt(b, int64(n+1), 10)
		b = append(b, `,"diagnosisCodeableConcept":`...)
		b = coding(b, icd10, pick(d, diagnoses))
		b = append(b, `,"type":[`...)
		if n == 0 {
			b = coding(b, terminology+"ex-diagnosistype", code{"principal", "Principal Diagnosis"})
		} else {
			b = coding(b, carinCodes+"C4BBClaimDiagnosisType", code{"secondary", "Secondary Diagnosis"})
		}
		b = append(b, `]}`...)
	}
	return b
}

func appendItem(
	b []byte, sequence, diagnosis, start, end int, pharmacy, institutional bool, s *sums, d *dice,
) []byte {
	b = append(b, `{"sequence":`...)
	b = strconv.AppendInt(b, int64(sequence), 10)
	b = append(b, `,"careTeamSequence":[1,2],"diagnosisSequence":[`...)
	b = strconv.AppendInt(b, int64(diagnosis), 10)
	b = append(b, ']')
	if institutional {
		b = append(b, `,"revenue":`...)
		b = coding(b, "https://www.nubc.org/CodeSystem/RevenueCodes", pick(d, revenueCenters))
	}
	b = append(b, `,"productOrService":`...)
	if pharmacy {
		b = coding(b, ndcSystem, pick(d, drugs))
	} else {
		b = coding(b, cptSystem, pick(d, procedures))
	}
	b = append(b, `,"servicedPeriod":`...)
	b = appendPeriod(b, start, end)
	b = append(b, `,"locationCodeableConcept":`...)
	b = coding(b, posSystem, pick(d, places))
	b = append(b, `,"quantity":{"value":`...)
	b = strconv.AppendInt(b, int64(d.between(1, 6)), 10)
	b = append(b, `},"net":`...)
	b = appendMoney(b, s.eligible)
	b = append(b, `,"adjudication":[`...)
	b = appendAdjudication(b, terminology+"adjudication", "submitted", "Submitted Amount", s.submitted)
	b = append(b, ',')
	b = appendAdjudication(b, terminology+"adjudication", "eligible", "Eligible Amount", s.eligible)
	b = append(b, ',')
	b = appendAdjudication(b, carinCodes+"C4BBAdjudication", "paidtoprovider", "Paid to provider", s.paid)
	b = append(b, ',')
	b = appendAdjudication(b, carinCodes+"C4BBAdjudication", "memberliability", "Member liability", s.patient)
	return append(b, `]}`...)
}

func appendAdjudication(b []byte, system, category, display string, cents int) []byte {
	b = append(b, `{"category":`...)
	b = coding(b, system, code{category, display})
	b = append(b, `,"amount":`...)
	b = appendMoney(b, cents)
	return append(b, '}')
}

func appendTotal(b []byte, category, display string, cents int) []byte {
	return appendAdjudication(b, terminology+"adjudication", category, display, cents)
}
