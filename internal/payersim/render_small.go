package payersim

import "strconv"

func (e era) renderPatient(b []byte, i int, l life, d *dice) []byte {
	b = e.head(b, kindPatient, i, l, carin+"StructureDefinition/C4BB-Patient|2.1.0")
	race := pick(d, races)
	b = append(b, `,"language":"en-US","extension":[{"url":"`+usCore+`us-core-race","extension":[`+
		`{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"`...)
	b = append(b, race.code...)
	b = append(b, `","display":"`...)
	b = append(b, race.display...)
	b = append(b, `"}},{"url":"text","valueString":"`...)
	b = append(b, race.display...)
	b = append(b, `"}]}],"identifier":[{"type":{"coding":[{"system":"`+terminology+`v2-0203","code":"MB","display":"Member Number"}]},`+
		`"system":"https://payer.example.com/member","value":"M`...)
	b = appendDigits(b, uint64(i)+1, 9)
	b = append(b, `"},{"type":{"coding":[{"system":"`+carinCodes+`C4BBIdentifierType","code":"um","display":"Unique Member ID"}]},`+
		`"system":"https://payer.example.com/unique-member","value":"`...)
	b = appendDigits(b, d.next()%1e12, 12)
	names, gender := femaleNames, "female"
	if d.roll(2) == 0 {
		names, gender = maleNames, "male"
	}
	b = append(b, `"}],"active":true,"name":[{"use":"usual","family":"`...)
	b = append(b, pick(d, familyNames)...)
	b = append(b, `","given":["`...)
	b = append(b, pick(d, names)...)
	b = append(b, `","`...)
	b = append(b, pick(d, names)[0])
	b = append(b, `"]}],"gender":"`...)
	b = append(b, gender...)
	b = append(b, `","birthDate":"19`...)
	b = appendDigits(b, uint64(d.between(30, 99)), 2)
	b = append(b, '-')
	b = appendDigits(b, uint64(d.between(1, 12)), 2)
	b = append(b, '-')
	b = appendDigits(b, uint64(d.between(1, 28)), 2)
	// A member who is updated has moved.
	d = e.versionDice(kindPatient, i, l)
	b = append(b, `","telecom":[{"system":"phone","value":"(555) `...)
	b = appendDigits(b, uint64(d.roll(1000)), 3)
	b = append(b, '-')
	b = appendDigits(b, uint64(d.roll(10000)), 4)
	b = append(b, `","use":"home"}],"address":[`...)
	b = appendAddress(b, d)
	return append(b, `],"communication":[{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"en-US","display":"English"}]},`+
		`"preferred":true}]}`...)
}

// versionDice are the dice for what changes from version to version.
func (e era) versionDice(k, i int, l life) *dice {
	d := dice(e.hash(k, i, 1<<32+uint64(l.version)))
	return &d
}

func appendAddress(b []byte, d *dice) []byte {
	at := pick(d, cities)
	b = append(b, `{"use":"home","type":"physical","line":["`...)
	b = strconv.AppendInt(b, int64(d.between(1, 9800)), 10)
	b = append(b, ' ')
	b = append(b, pick(d, streets)...)
	b = append(b, `"],"city":"`...)
	b = append(b, at.city...)
	b = append(b, `","state":"`...)
	b = append(b, at.state...)
	b = append(b, `","postalCode":"`...)
	b = append(b, at.zip...)
	return append(b, `","country":"US"}`...)
}

func (e era) renderCoverage(b []byte, i int, l life, d *dice) []byte {
	b = e.head(b, kindCoverage, i, l, carin+"StructureDefinition/C4BB-Coverage|2.1.0")
	b = append(b, `,"identifier":[{"system":"https://payer.example.com/coverage","value":"C`...)
	b = appendDigits(b, uint64(i)+1, 9)
	b = append(b, `"}],"status":"active","type":`...)
	b = coding(b, terminology+"v3-ActCode", pick(d, plans))
	b = append(b, `,"policyHolder":`...)
	b = e.reference(b, kindPatient, i)
	b = append(b, `,"subscriber":`...)
	b = e.reference(b, kindPatient, i)
	b = append(b, `,"subscriberId":"M`...)
	b = appendDigits(b, uint64(i)+1, 9)
	b = append(b, `","beneficiary":`...)
	b = e.reference(b, kindPatient, i)
	b = append(b, `,"dependent":"01","relationship":{"coding":[{"system":"`+terminology+`subscriber-relationship","code":"self",`+
		`"display":"Self"}]},"period":{"start":"`...)
	start := d.roll(4) * 365
	b = append(b, days[start]...)
	// A coverage that is updated has been prolonged.
	b = append(b, `","end":"`...)
	b = append(b, days[min(start+365+7*l.version, len(days)-1)]...)
	b = append(b, `"},"payor":[`...)
	b = e.reference(b, kindOrganization, 0)
	b = append(b, `],"class":[{"type":{"coding":[{"system":"`+terminology+`coverage-class","code":"group","display":"Group"}]},"value":"G`...)
	b = appendDigits(b, uint64(d.roll(1_000_000)), 6)
	b = append(b, `","name":"Employer Group"},{"type":{"coding":[{"system":"`+terminology+`coverage-class","code":"plan",`+
		`"display":"Plan"}]},"value":"`...)
	b = appendDigits(b, uint64(d.roll(10_000)), 4)
	b = append(b, `","name":"Preferred Care Plan"}],"order":1,"network":"Network `...)
	b = strconv.AppendInt(b, int64(e.versionDice(kindCoverage, i, l).roll(1000)), 10)
	return append(b, `"}`...)
}

func (e era) renderPractitioner(b []byte, i int, l life, d *dice) []byte {
	b = e.head(b, kindPractitioner, i, l, carin+"StructureDefinition/C4BB-Practitioner|2.1.0")
	b = append(b, `,"identifier":[{"type":{"coding":[{"system":"`+terminology+`v2-0203","code":"NPI",`+
		`"display":"National provider identifier"}]},"system":"`+npiSystem+`","value":"1`...)
	b = appendDigits(b, uint64(i)*7919%1e9, 9)
	b = append(b, `"}],"active":true,"name":[{"use":"official","family":"`...)
	b = append(b, pick(d, familyNames)...)
	b = append(b, `","given":["`...)
	b = append(b, pick(d, femaleNames)...)
	b = append(b, `"],"suffix":["MD"]}],"qualification":[{"code":`...)
	b = coding(b, "http://nucc.org/provider-taxonomy", pick(d, specialties))
	d = e.versionDice(kindPractitioner, i, l)
	b = append(b, `}],"telecom":[{"system":"phone","value":"(555) 01`...)
	b = appendDigits(b, uint64(d.roll(100_000)), 5)
	b = append(b, `","use":"work"}],"address":[`...)
	b = appendAddress(b, d)
	return append(b, `]}`...)
}

func (e era) renderOrganization(b []byte, i int, l life, d *dice) []byte {
	b = e.head(b, kindOrganization, i, l, carin+"StructureDefinition/C4BB-Organization|2.1.0")
	b = append(b, `,"identifier":[{"type":{"coding":[{"system":"`+terminology+`v2-0203","code":"NPI",`+
		`"display":"National provider identifier"}]},"system":"`+npiSystem+`","value":"2`...)
	b = appendDigits(b, uint64(i)*6113%1e9, 9)
	b = append(b, `"}],"active":true,"type":[`...)
	if i == 0 { // the payer itself
		b = coding(b, terminology+"organization-type", code{"pay", "Payer"})
		b = append(b, `],"name":"Example Health Plan`...)
	} else {
		b = coding(b, terminology+"organization-type", code{"prov", "Healthcare Provider"})
		b = append(b, `],"name":"`...)
		b = append(b, pick(d, cities).city...)
		b = append(b, ' ')
		b = append(b, pick(d, organizationNames)...)
	}
	d = e.versionDice(kindOrganization, i, l)
	b = append(b, `","telecom":[{"system":"phone","value":"(555) 02`...)
	b = appendDigits(b, uint64(d.roll(100_000)), 5)
	b = append(b, `","use":"work"}],"address":[`...)
	b = appendAddress(b, d)
	return append(b, `]}`...)
}
