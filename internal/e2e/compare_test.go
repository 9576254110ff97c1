package e2e

import (
	"testing"

	"ingestd/internal/payersim"
	"ingestd/internal/verify"
)

// held is what a payer held in the round of its last export.
func held(t *testing.T, sim *payersim.Server) verify.Source {
	t.Helper()
	all := make(verify.Source)
	err := sim.Truth(func(resourceType, id string, line []byte) bool {
		all.Add(resourceType, id, line)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compare compares every row of a payer with the source, both ways: nothing lost, nothing extra, nothing altered.
func (s *site) compare(payer string, want verify.Source) {
	s.t.Helper()
	_, wrong, err := verify.Payer(s.t.Context(), s.db, "fhir", payer, want)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, difference := range wrong {
		s.t.Error(difference)
	}
}
