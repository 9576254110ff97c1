package config_test

import (
	"slices"
	"strings"
	"testing"
)

// refused lists the problems of a payer whose export says this, without their file, line and payer.
func refused(t *testing.T, export string) []string {
	t.Helper()
	text := head + "\npayers:\n  - name: one\n    fhir_url: https://one.example/r4\n    auth: {client_id: x}\n    export: " + export + "\n"
	var told []string
	for _, p := range problems(t, text) {
		if p.File != "test.yaml" || p.Line != 10 {
			t.Errorf("%s: the problem is told of %s:%d, want test.yaml:10", export, p.File, p.Line)
		}
		told = append(told, strings.TrimPrefix(p.Path, "payers[0].")+": "+p.Text)
	}
	return told
}

func accepts(t *testing.T, export string) {
	t.Helper()
	mustParse(t, head+"\npayers:\n  - name: one\n    fhir_url: https://one.example/r4\n    auth: {client_id: x}\n    export: "+export+"\n")
}

func TestINC7_a_type_filter_chooses_resources_of_one_type(t *testing.T) {
	t.Parallel()
	const types = "types: [Patient, Observation], type_filters: "
	for _, parameter := range []string{
		"_sort", "_count", "_include", "_revinclude", "_include:iterate", "_summary", "_elements", "_total", "_contained", "_containedType",
		"_format", "_type", "_since",
	} {
		got := refused(t, "{"+types+`["Patient?active=true&`+parameter+`=x"]}`)
		bare, _, _ := strings.Cut(parameter, ":")
		want := "export.type_filters[0]: " + bare + " does not choose resources and cannot stand in a _typeFilter: expected search parameters of Patient"
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s: got %q, want %q", parameter, got, want)
		}
	}
	const form = ": expected one type and a search, such as ExplanationOfBenefit?type=pharmacy"
	for filter, want := range map[string]string{
		"Patient,Observation?x=y":       `"Patient,Observation?x=y"` + form,
		"Patient/1/Observation?code=x":  `"Patient/1/Observation?code=x"` + form,
		"/Patient?active=true":          `"/Patient?active=true"` + form,
		"https://one.example/Patient?x": `"https://one.example/Patient?x"` + form,
		"?active=true":                  `"?active=true"` + form,
		"Condition?code=x":              "Condition is not among export.types: expected it there, or no filter for it",
	} {
		if got := refused(t, "{"+types+`["`+filter+`"]}`); !slices.Equal(got, []string{"export.type_filters[0]: " + want}) {
			t.Errorf("%s: got %q, want %q", filter, got, want)
		}
	}
	accepts(t, "{"+types+`["Patient?active=true", "Observation?code=http://loinc.org|1,2&_lastUpdated=gt2026-01-01", "Observation?_has:Provenance:target:agent=x"]}`)
}

func TestINC9_patients_and_elements_stand_only_where_they_can_work(t *testing.T) {
	t.Parallel()
	for export, want := range map[string][]string{
		`{level: system, method: post, patients: ["1"]}`: {"export.patients: cannot be used at level system: expected level patient or group"},
		`{level: patient, patients: ["1"]}`:              {`export.patients: can only be sent with method post, and the method is "get"`},
		`{level: patient, method: post, patients: [Group/1]}`: {
			"export.patients[0]: expected Patient/id, or a mere id",
		},
		`{types: [Patient], elements: ["id,name", "name.family", Patients.name, Coverage.id]}`: {
			`export.elements[0]: "id,name": expected one outermost element an entry, as name or Type.name, such as Patient.identifier`,
			`export.elements[1]: "name" is not a resource type of FHIR R4, R4B or R5`,
			`export.elements[2]: "Patients" is not a resource type of FHIR R4, R4B or R5: did you mean Patient?`,
			"export.elements[3]: Coverage is not among export.types: expected it there, or no element of it",
		},
		`{include_associated_data: [Provenance]}`: {
			`export.include_associated_data[0]: "Provenance": expected LatestProvenanceResources, RelevantProvenanceResources, ` +
				"or a name of the payer's own, which begins with _",
		},
		`{attachment_types: [text/*]}`: {
			"export.attachment_types: is for attachments that are fetched, and export.attachments is none: expected inline or table there, or none here",
		},
		`{attachments: table, attachment_types: [text, "application/pdf; x=y"]}`: {
			`export.attachment_types[0]: "text": expected a media type, such as application/pdf or text/*`,
			`export.attachment_types[1]: "application/pdf; x=y": expected a media type, such as application/pdf or text/*`,
		},
		`{since_optional: true}`: {
			"export.since_optional: needs handling lenient, and the handling is none: expected handling: lenient beside it",
		},
		`{since_optional: true, handling: lenient, full_since: "2020-01-01T00:00:00Z"}`: {
			"export.since_optional: cannot stand beside full_since: where no _since does not mean everything, it cannot be given up",
		},
	} {
		if got := refused(t, export); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", export, got, want)
		}
	}
	accepts(t, `{level: group, group_id: g, method: post, patients: ["1", Patient/2], types: [Patient], elements: [id, Patient.name], `+
		`include_associated_data: [LatestProvenanceResources, _own]}`)
	accepts(t, "{elements: [id, Coverage.payor]}")
	accepts(t, "{attachments: table, attachment_types: [text/*, application/vnd.x+json]}")
}

func TestKEY3_a_kid_names_one_key_only(t *testing.T) {
	t.Parallel()
	const keys = "database: {url: env:DATABASE_URL}\nkeys:\n  - {id: k1, private_key: file:/k1.pem}\n  - {id: k2, private_key: file:/k2.pem, state: published}\n"
	const payer = "payers:\n  - name: one\n    fhir_url: https://one.example/r4\n    auth: {client_id: x, kid: "
	for text, want := range map[string]string{
		strings.Replace(keys, "id: k2", "id: k1", 1) + payer + "other}\n": `test.yaml:4: keys[1].id: "k1" is also the id of the key at test.yaml:3`,
		keys + payer + "k2}\n": `test.yaml:8: payers[0].auth.kid: "k2" is the id of another key: expected a kid that names this one only`,
	} {
		got := problems(t, text)
		if len(got) != 1 || got[0].String() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	mustParse(t, keys+payer+"k1}\n")
	mustParse(t, keys+payer+"11111111-2222-3333-4444-555555555555}\n")
}
