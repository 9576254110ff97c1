package fhir

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestScan_reads_the_keys_of_a_resource(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line                         string
		resourceType, id, version, patient string
		lastUpdated                        string
		subsetted                          bool
	}{
		{
			name: "claim with everything", line: `{"resourceType":"ExplanationOfBenefit","id":"e1","meta":{"versionId":"3",` +
				`"lastUpdated":"2026-03-01T10:00:00.123456+02:00"},"patient":{"reference":"Patient/p1"}}`,
			resourceType: "ExplanationOfBenefit", id: "e1", version: "3", patient: "p1", lastUpdated: "2026-03-01T08:00:00.123456Z",
		},
		{
			name: "type and id last, white space", line: " { \"subject\" : { \"reference\" : \"http://x/fhir/Patient/p/1\" } ,\t" +
				`"id":"o1" , "resourceType" : "Observation" } `,
			resourceType: "Observation", id: "o1", patient: "",
		},
		{
			name: "absolute reference", line: `{"resourceType":"Observation","id":"o","subject":{"reference":"https://h/r4/Patient/p9"}}`,
			resourceType: "Observation", id: "o", patient: "p9",
		},
		{
			name: "versioned reference", line: `{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p9/_history/4"}}`,
			resourceType: "Observation", id: "o", patient: "p9",
		},
		{
			name: "urn:uuid reference", line: `{"resourceType":"Coverage","id":"c","beneficiary":{"reference":"urn:uuid:6c5d"}}`,
			resourceType: "Coverage", id: "c", patient: "6c5d",
		},
		{
			name: "a group as subject", line: `{"resourceType":"Observation","id":"o","subject":{"reference":"Group/g"}}`,
			resourceType: "Observation", id: "o",
		},
		{
			name: "contained subject", line: `{"resourceType":"Observation","id":"o","subject":{"reference":"#p"}}`,
			resourceType: "Observation", id: "o",
		},
		{
			name: "identifier only", line: `{"resourceType":"Observation","id":"o","subject":{"identifier":{"value":"1"}}}`,
			resourceType: "Observation", id: "o",
		},
		{
			name: "patient is itself", line: `{"resourceType":"Patient","id":"p7","link":[{"other":{"reference":"Patient/p1"}}]}`,
			resourceType: "Patient", id: "p7", patient: "p7",
		},
		{
			name: "first patient of an array", line: `{"resourceType":"Appointment","id":"a","participant":[{"actor":` +
				`{"reference":"Practitioner/x"}},{"actor":{"reference":"Patient/p2"}}]}`,
			resourceType: "Appointment", id: "a", patient: "p2",
		},
		{
			name: "no compartment type", line: `{"resourceType":"Organization","id":"g","subject":{"reference":"Patient/p"}}`,
			resourceType: "Organization", id: "g",
		},
		{
			name: "contained id does not count", line: `{"resourceType":"Claim","id":"outer","contained":[{"resourceType":"Patient","id":"inner"}]}`,
			resourceType: "Claim", id: "outer",
		},
		{
			name: "repeated member: the last counts, as in jsonb", line: `{"resourceType":"Claim","id":"a","id":"b"}`,
			resourceType: "Claim", id: "b",
		},
		{name: "escaped name and value", line: `{"resourceType":"Claim","\u0069d":"a\u002fb"}`, resourceType: "Claim", id: "a/b"},
		{name: "meta is no object", line: `{"resourceType":"Claim","id":"a","meta":[1]}`, resourceType: "Claim", id: "a"},
		{
			name:         "an offset without its colon",
			line:         `{"resourceType":"Claim","id":"a","meta":{"lastUpdated":"2026-03-01T10:00:00.5+0200"}}`,
			resourceType: "Claim", id: "a", lastUpdated: "2026-03-01T08:00:00.5Z",
		},
		{
			name: "lastUpdated is no instant", line: `{"resourceType":"Claim","id":"a","meta":{"lastUpdated":"yesterday","versionId":7}}`,
			resourceType: "Claim", id: "a",
		},
		{
			name: "subsetted", line: `{"resourceType":"Claim","id":"a","meta":{"tag":[{"code":"x"},{"code":"SUBSETTED"}]}}`,
			resourceType: "Claim", id: "a", subsetted: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			keys, err := Scan([]byte(test.line))
			if err != nil {
				t.Fatalf("Scan: %v", err)
			}
			var want time.Time
			if test.lastUpdated != "" {
				want, _ = time.Parse(time.RFC3339Nano, test.lastUpdated)
			}
			if string(keys.ResourceType) != test.resourceType || string(keys.ID) != test.id ||
				string(keys.VersionID) != test.version || string(keys.PatientID) != test.patient ||
				!keys.LastUpdated.Equal(want) || keys.Subsetted != test.subsetted {
				t.Errorf("got %s/%s version %q patient %q updated %v subsetted %v, want %+v",
					keys.ResourceType, keys.ID, keys.VersionID, keys.PatientID, keys.LastUpdated, keys.Subsetted, test)
			}
		})
	}
}

func TestScan_names_what_is_wrong_with_a_line(t *testing.T) {
	t.Parallel()
	const good = `{"resourceType":"Claim","id":"a"`
	tests := []struct {
		line   string
		reason Reason
	}{
		{``, ReasonNotJSON},
		{`   `, ReasonNotJSON},
		{`[]`, ReasonNotObject},
		{`[1,{"a":null}]`, ReasonNotObject},
		{`"text"`, ReasonNotObject},
		{`17`, ReasonNotObject},
		{`null`, ReasonNotObject},
		{`nul`, ReasonNotJSON},
		{`<html>`, ReasonNotJSON},
		{`{}`, ReasonNoType},
		{`{"resourceType":7,"id":"a"}`, ReasonNoType},
		{`{"resourceType":"Claim"}`, ReasonNoID},
		{`{"resourceType":"Claim","id":12}`, ReasonNoID},
		{`{"resourceType":"Claim","id":""}`, ReasonBadID},
		{`{"resourceType":"Claim","id":"` + strings.Repeat("x", 300) + `"}`, ReasonBadID},
		{good, ReasonNotJSON},
		{good + `}{"resourceType":"Claim","id":"b"}`, ReasonNotJSON},
		{good + `,}`, ReasonNotJSON},
		{good + `,"v":NaN}`, ReasonNotJSON},
		{good + `,"v":01}`, ReasonNotJSON},
		{good + `,"v":1.}`, ReasonNotJSON},
		{good + `,"v":1e}`, ReasonNotJSON},
		{good + `,"v":-}`, ReasonNotJSON},
		{good + `,"v":[1,]}`, ReasonNotJSON},
		{good + `,"v":[1}`, ReasonNotJSON},
		{good + `,v:1}`, ReasonNotJSON},
		{good + `,"v" 1}`, ReasonNotJSON},
		{good + `,"v":"\x"}`, ReasonNotJSON},
		{good + `,"v":"\u00g0"}`, ReasonNotJSON},
		{good + ",\"v\":\"a\tb\"}", ReasonNotJSON},
		{good + `,"v":"\u0000"}`, ReasonNUL},
		{good + `,"v":"\ud800"}`, ReasonLoneSurrogate},
		{good + `,"v":"\ud800\u0041"}`, ReasonLoneSurrogate},
		{good + `,"v":"\udc00"}`, ReasonLoneSurrogate},
		{good + `,"v":"\ud83d`, ReasonLoneSurrogate},
		{good + ",\"v\":\"\xff\"}", ReasonInvalidUTF8},
		{good + ",\"v\":\"\xed\xa0\x80\"}", ReasonInvalidUTF8},
		{good + `,"v":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, ReasonTooDeep},
		{good + `,"v":` + strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000) + `}`, ReasonTooDeep},
	}
	for _, test := range tests {
		_, err := Scan([]byte(test.line))
		var lineError *LineError
		if !errors.As(err, &lineError) {
			t.Errorf("Scan(%.60q): got %v, want a LineError %s", test.line, err, test.reason)
			continue
		}
		if lineError.Reason != test.reason {
			t.Errorf("Scan(%.60q): got %v, want %s", test.line, err, test.reason)
		}
	}
}

func TestScan_takes_what_jsonb_holds(t *testing.T) {
	t.Parallel()
	const good = `{"resourceType":"Claim","id":"a"`
	for _, line := range []string{
		good + `,"v":[true,false,null,-0.5e+10,1E-3,0,"\ud83d\ude00 \"\\\/\b\f\n\r\t é 😀"]}`,
		good + ",\"v\":\"\u2028\"}\r",
		good + `,"v":` + strings.Repeat("[", MaxDepth-2) + strings.Repeat("]", MaxDepth-2) + `}`,
		good + `,"v":{},"w":[],"x":{"y":{}}}`,
	} {
		if _, err := Scan([]byte(line)); err != nil {
			t.Errorf("Scan(%.60q): %v", line, err)
		}
	}
}

func TestScan_does_not_allocate(t *testing.T) {
	line := []byte(sampleLine)
	if got := testing.AllocsPerRun(100, func() { _, _ = Scan(line) }); got != 0 {
		t.Errorf("got %v allocations a line, want none", got)
	}
}

func TestPatientMembers_are_all_noted_by_the_scanner(t *testing.T) {
	t.Parallel()
	for resourceType, paths := range patientMembers {
		if !KnownType(resourceType) {
			t.Errorf("%s is no resource type", resourceType)
		}
		for _, path := range paths {
			first, _, _ := cutPath(path)
			if !isPatientMember([]byte(first)) {
				t.Errorf("%s.%s is not noted", resourceType, path)
			}
		}
	}
}

func TestTableName_is_snake_case_of_known_types(t *testing.T) {
	t.Parallel()
	for resourceType, want := range map[string]string{"ExplanationOfBenefit": "explanation_of_benefit", "Patient": "patient"} {
		if got, ok := TableName(resourceType); !ok || got != want {
			t.Errorf("TableName(%q) = %q, %v, want %q", resourceType, got, ok, want)
		}
	}
	if _, ok := TableName(`patient"; drop table x`); ok {
		t.Error("an unknown type has a table name")
	}
	if got := len(Types()); got < 170 {
		t.Errorf("got %d types, want those of R4, R4B and R5", got)
	}
}

// FuzzScan holds the scanner to encoding/json: what Scan takes is JSON, and what it calls no JSON is none.
func FuzzScan(f *testing.F) {
	f.Add([]byte(sampleLine))
	f.Add([]byte(`{"resourceType":"Claim","id":"a","v":[1.5e3,"\ud83d\ude00"]}`))
	f.Add([]byte(`{"resourceType":"Claim","id":"\u0000"}`))
	f.Add([]byte(`[{"a":1},tru]`))
	f.Fuzz(func(t *testing.T, line []byte) {
		keys, err := Scan(line)
		valid := json.Valid(line) && utf8.Valid(line)
		var lineError *LineError
		switch {
		case err == nil && !valid:
			t.Fatalf("took %q, which is not JSON", line)
		case err == nil:
			var resource struct {
				ResourceType string
				ID           string
			}
			if json.Unmarshal(line, &resource) == nil && len(keys.ID) == 0 {
				t.Fatalf("no id for %q", line)
			}
		case !errors.As(err, &lineError):
			t.Fatalf("error of type %T", err)
		case lineError.Reason == ReasonNotJSON && valid:
			t.Fatalf("refused %q: %v", line, err)
		}
	})
}

const sampleLine = `{"resourceType":"ExplanationOfBenefit","id":"claim-000123","meta":{"versionId":"1","lastUpdated":` +
	`"2026-01-02T03:04:05.678Z","profile":["http://hl7.org/fhir/us/carin-bb/StructureDefinition/C4BB-ExplanationOfBenefit"]},` +
	`"status":"active","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/claim-type","code":"professional",` +
	`"display":"Professional"}]},"use":"claim","patient":{"reference":"Patient/member-42"},"created":"2026-01-01",` +
	`"insurer":{"reference":"Organization/payer"},"provider":{"reference":"Organization/prov-9"},"outcome":"complete",` +
	`"item":[{"sequence":1,"productOrService":{"text":"Office visit \u2013 established"},"net":{"value":123.40,"currency":"USD"}}]}`

func BenchmarkScan(b *testing.B) {
	line := []byte(sampleLine)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Scan(line); err != nil {
			b.Fatal(err)
		}
	}
}
