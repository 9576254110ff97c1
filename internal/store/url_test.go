package store

import (
	"strings"
	"testing"
)

func TestOpen_repeats_no_password_of_a_connection_string_that_cannot_be_read(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://ingestd:HUNTER2/more@db.example/fhir", "postgres://ingestd:HUNTER2%zz@db.example/fhir", "postgres://ingestd:HUN TER2@db.example/fhir",
		"postgres://ingestd@db.example/fhir?password=HUNTER2&sslmode=none", "host=db.example password=HUNTER2 sslmode=none",
		"postgres://ingestd:12/HUNTER2@db.example/fhir", "postgres://ingestd:HUNTER2#x@db.example/fhir", "password=HUNTER2'", "HUNTER2",
		"postgres://db.example/fhir?connect_timeout=HUNTER2",
	} {
		_, err := Open(t.Context(), Options{URL: url})
		if err == nil {
			t.Errorf("%s: opened", url)
			continue
		}
		if text := err.Error(); strings.Contains(text, "HUNTER2") || strings.Contains(text, "TER2") {
			t.Errorf("got %q, which holds the password", text)
		}
	}
}
