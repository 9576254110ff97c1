package e2e

import (
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/verify"
)

func TestTOK4_nothing_is_lost_of_a_type_that_is_not_granted_for_a_while(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("p", payersim.Options{Patients: 60, Seed: 5, Changes: 0.2})
	s.configure("", []payer{p}, `export: {since_overlap: 0s}`)
	const withdrawn = "ExplanationOfBenefit"
	grant := func(without ...string) {
		if err := p.sim.SetFaults(payersim.Faults{Token: payersim.TokenFaults{WithoutTypes: without}}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(kind string) {
		t.Helper()
		// The payer's transactionTime is in whole seconds: an export as of the same instant moves no watermark.
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1010 * time.Millisecond)))
		if got := s.runJSON("p"); got.State != "published" || got.Kind != kind {
			t.Fatalf("got a %s export that is %s, want a %s one that is published", got.Kind, got.State, kind)
		}
	}
	run("full")
	s.compare("p", held(t, p.sim))
	before := held(t, p.sim)
	grant(withdrawn)
	run("incremental") // what changes of that type now, the payer does not tell
	if missed := verify.Differences(before, held(t, p.sim))[withdrawn]; missed.Inserted*missed.Updated*missed.Deleted == 0 {
		t.Fatalf("meanwhile %+v %ss changed at the payer: expected some of each", missed, withdrawn)
	}
	grant()
	run("incremental") // and what changed before this export's _since, it does not tell either
	run("full")
	s.compare("p", held(t, p.sim))
	run("incremental")
	s.compare("p", held(t, p.sim))
}
