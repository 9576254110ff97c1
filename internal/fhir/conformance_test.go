package fhir

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestND2_ids_beyond_the_pattern_of_FHIR_are_taken_to_255_characters(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "-10000", "with_underscore", "urn:x|y", strings.Repeat("x", 65), strings.Repeat("x", 255)} {
		for _, line := range []string{
			fmt.Sprintf(`{"resourceType":"Claim","id":%q}`, id), fmt.Sprintf(`{"id":%q,"x":[{}],"resourceType":"Claim"}`, id),
		} {
			if keys, err := Scan([]byte(line)); err != nil || string(keys.ID) != id || string(keys.ResourceType) != "Claim" {
				t.Errorf("%.80s: got %s/%s, %v", line, keys.ResourceType, keys.ID, err)
			}
		}
	}
	for line, want := range map[string]Reason{
		`[{"resourceType":"Claim","id":"a"}]`: ReasonNotObject,
		`7`:                                   ReasonNotObject,
		`"x"`:                                 ReasonNotObject,
		`{}`:                                  ReasonNoType,
		`{"resourceType":"Claim","id":"a"}{"resourceType":"Claim","id":"b"}`:        ReasonNotJSON,
		`{"resourceType":"Claim","id":"a"`:                                          ReasonNotJSON,
		`{"resourceType":"Claim"}`:                                                  ReasonNoID,
		`{"resourceType":"Claim","id":"` + strings.Repeat("x", 256) + `"}`:          ReasonBadID,
		`{"resourceType":"Claim","contained":[{"resourceType":"Claim","id":"in"}]}`: ReasonNoID,
		`{"id":"a","contained":[{"resourceType":"Claim","id":"in"}],"status":"x"}`:  ReasonNoType,
	} {
		_, err := Scan([]byte(line))
		if bad, ok := errors.AsType[*LineError](err); !ok || bad.Reason != want {
			t.Errorf("%.80s: got %v, want %s", line, err, want)
		}
	}
}

func TestND7_the_patient_is_read_from_each_form_of_reference(t *testing.T) {
	t.Parallel()
	for reference, want := range map[string]string{
		`{"reference":"Patient/p1"}`:                          "p1",
		`{"reference":"https://payer.example/r4/Patient/p1"}`: "p1",
		`{"reference":"#p1"}`:                                 "",
		`{"reference":"Group/p1"}`:                            "",
		`{"reference":"Patient/"}`:                            "",
		`{"reference":"p1"}`:                                  "",
		`{"identifier":{"value":"p1"}}`:                       "",
		`{"display":"Patient/p1"}`:                            "",
		`{"reference":7}`:                                     "",
		`"Patient/p1"`:                                        "",
	} {
		keys, err := Scan([]byte(`{"resourceType":"Observation","id":"o","subject":` + reference + `}`))
		if err != nil || string(keys.PatientID) != want {
			t.Errorf("%s: got patient %q, %v; want %q", reference, keys.PatientID, err, want)
		}
	}
}
