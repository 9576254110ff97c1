package fhir_test

import (
	"strings"
	"testing"

	"ingestd/internal/fhir"
)

func TestGuessID(t *testing.T) {
	for line, want := range map[string]string{
		`{"resourceType":"Patient","id":"a-1.b","meta":{}}`: "a-1.b",
		`{ "id" : "x" }`:                            "x",
		`{"meta":{"id":"inner"},"id":"outer"}`:      "inner", // a wrong guess costs a look-up, and nothing else
		`{"id":"` + strings.Repeat("a", 255) + `"}`: strings.Repeat("a", 255),
		`{"id":"` + strings.Repeat("a", 256) + `"}`: "",
		`{"id":""}`:         "",
		`{"id":"a\u0062"}`:  "",
		`{"id":"ä"}`:        "",
		"{\"id\":\"a\x00\"": "",
		`{"id":7}`:          "",
		`{"id"`:             "",
		`{"id":`:            "",
		`{"id":"`:           "",
		`{"id":"open`:       "",
		``:                  "",
	} {
		if got := string(fhir.GuessID([]byte(line))); got != want {
			t.Errorf("GuessID(%.40s) = %q, want %q", line, got, want)
		}
	}
}
