package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestINC4_a_type_that_is_no_longer_granted_is_not_taken_for_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Load.RemoveGhosts = true })
	p.onFile = func(w http.ResponseWriter) {
		fmt.Fprint(w, patients(2)[0]+patients(2)[1])
	}
	p.members = fmt.Sprintf(`},{"type":"Coverage","url":"%s/file/coverage"`, p.url)
	p.files = map[string]string{"coverage": `{"resourceType":"Coverage","id":"c"}` + "\n"}
	answers := grantsOf(&p.Payer, "Patient", "Coverage")
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	want := func(when string, x store.Export, ghosts int64, coverages int) {
		t.Helper()
		if got := number(t, s, `SELECT count(*) FROM fhir.coverage`); got != coverages || x.Ghosts != ghosts {
			t.Errorf("%s: %d ghosts left, and %d Coverages stand; want %d and %d", when, x.Ghosts, got, ghosts, coverages)
		}
	}
	want("all is there", runExport(t, e, s), 0, 1)
	// The payer sends only what it still grants, and one Patient is gone.
	p.members = ""
	p.onFile = onePatient
	onceAccepted := func(types *[]string) { // while the payer is at work
		p.onStatus = func(http.ResponseWriter, string) bool {
			answers.Store(types)
			return true
		}
	}
	onceAccepted(nil)
	want("nobody can be asked what is granted", runExport(t, e, s), 0, 1)
	answers.Store(&[]string{"Patient", "Coverage"})
	onceAccepted(&[]string{"Patient"})
	want("Coverage is granted no longer when it is published", runExport(t, e, s), 1, 1)
	onceAccepted(&[]string{"Patient", "Coverage"})
	want("Coverage was not granted when it was asked for", runExport(t, e, s), 0, 1)
	want("Coverage is granted, and gone", runExport(t, e, s), 1, 0)
}

// grantsOf makes a payer answer what it grants with the types that are stored; nil: the question fails.
func grantsOf(p *Payer, types ...string) *atomic.Pointer[[]string] {
	answers := new(atomic.Pointer[[]string])
	answers.Store(&types)
	p.Covers = func(context.Context) (func(string) bool, error) {
		types := answers.Load()
		if types == nil {
			return nil, errors.New("the token endpoint is down")
		}
		return func(resourceType string) bool { return len(*types) == 0 || slices.Contains(*types, resourceType) }, nil
	}
	return answers
}

func TestTOK4_types_that_are_granted_later_make_the_next_export_a_full_one(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onStatus = func(w http.ResponseWriter, n string) bool {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"transactionTime":"2026-01-%02sT00:00:00Z","requiresAccessToken":false,"output":[]}`, n)
		return false
	}
	answers := grantsOf(&p.Payer)
	var log syncBuffer
	e := newEngine(t, s, Options{Logger: newTextLogger(&log)}, p)
	work(t, e)
	const told = "types are granted that were not before"
	for i, step := range []struct {
		granted []string // none: all
		kind    store.Kind
		widened bool
	}{
		{[]string{"Patient"}, store.KindFull, false},
		{[]string{"Patient"}, store.KindIncremental, false},
		{[]string{"Patient", "Coverage"}, store.KindIncremental, true},
		{[]string{"Patient", "Coverage"}, store.KindFull, false},
		{[]string{"Coverage", "Patient"}, store.KindIncremental, false},
		{[]string{"Patient"}, store.KindIncremental, false},
		{nil, store.KindIncremental, true},
		{nil, store.KindFull, false},
		{nil, store.KindIncremental, false},
		{[]string{"Claim"}, store.KindIncremental, false},
		{[]string{"Patient"}, store.KindIncremental, true},
		{[]string{"Patient"}, store.KindFull, false},
	} {
		before := strings.Count(log.String(), told)
		answers.Store(&step.granted)
		id, err := e.Start(t.Context(), "p", RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
		x, err := s.Export(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if x.Kind != step.kind {
			t.Errorf("export %d, granted %v, is %s, want %s", i+1, step.granted, x.Kind, step.kind)
		}
		if x.Granted == nil != (step.granted == nil) || len(x.Granted) != len(step.granted) {
			t.Errorf("export %d says that it was granted %v, want %v", i+1, x.Granted, step.granted)
		}
		widened := func() bool { return strings.Count(log.String(), told) > before }
		if step.widened {
			wait(t, "the word of it", widened)
		} else if widened() {
			t.Errorf("export %d, granted %v, is said to be granted more", i+1, step.granted)
		}
		if at := number(t, s, `SELECT extract(day FROM since AT TIME ZONE 'UTC') FROM ingest.watermark`); at != i+1 {
			t.Errorf("after export %d the data is complete up to day %d", i+1, at)
		}
	}
}

func TestTOK4_a_kick_off_in_doubt_is_taken_for_what_was_granted_each_time(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = onePatient
	answers := grantsOf(&p.Payer, "Patient", "Claim")
	p.onKickOff = func(_ http.ResponseWriter, n int) bool {
		answers.Store(&[]string{"Coverage", "Claim"})
		if n == 1 { // it may be at work, and says so to nobody
			panic(http.ErrAbortHandler)
		}
		return true
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	if x := runExport(t, e, s); !slices.Equal(x.Granted, []string{"Claim"}) {
		t.Errorf("an export that may be of either kick-off says that it was granted %v, want what both were", x.Granted)
	}
}
