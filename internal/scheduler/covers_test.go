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

// granting is a payer whose grants a test decides, and whose n-th export is as of the n-th of January 2026.
func granting(t *testing.T, change func(*config.Payer)) (*payer, *atomic.Pointer[[]string]) {
	t.Helper()
	p := newPayer(t, change)
	p.onStatus = func(w http.ResponseWriter, n string) bool {
		asOf(w, n)
		return false
	}
	return p, grantsOf(&p.Payer)
}

// asOf answers with an empty export as of a day of January 2026.
func asOf(w http.ResponseWriter, day string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"transactionTime":"2026-01-%02sT00:00:00Z","requiresAccessToken":false,"output":[]}`, day)
}

func TestTOK4_types_that_are_granted_later_make_the_next_export_a_full_one(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, answers := granting(t, nil)
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
		x := runWith(t, e, s, RunOptions{})
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

func TestTOK4_types_that_are_granted_later_are_asked_for_from_the_configured_beginning_once(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const beginning = "2025-01-01T00:00:00Z"
	p, answers := granting(t, func(c *config.Payer) { c.Export.Since = beginning })
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	for i, step := range []struct {
		granted []string
		since   string
	}{
		{[]string{"Patient"}, beginning},
		{[]string{"Patient", "Coverage"}, "2026-01-01T00:00:00Z"},
		{[]string{"Patient", "Coverage"}, beginning},
		{[]string{"Patient", "Coverage"}, "2026-01-03T00:00:00Z"},
		{[]string{"Patient", "Coverage"}, "2026-01-04T00:00:00Z"},
	} {
		answers.Store(&step.granted)
		if x := runWith(t, e, s, RunOptions{}); x.Since != step.since {
			t.Errorf("export %d asks for what changed since %q, want %s", i+1, x.Since, step.since)
		}
	}
}

func TestTOK4_a_full_export_as_of_the_same_instant_is_enough(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, answers := granting(t, nil)
	var day atomic.Pointer[string]
	p.onStatus = func(w http.ResponseWriter, _ string) bool { // the payer loads rarely
		asOf(w, *day.Load())
		return false
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	for i, step := range []struct {
		granted []string
		day     string
		kind    store.Kind
	}{
		{[]string{"Patient"}, "1", store.KindFull},
		{[]string{"Patient", "Coverage"}, "2", store.KindIncremental},
		{[]string{"Patient", "Coverage"}, "2", store.KindFull},
		{[]string{"Patient", "Coverage"}, "2", store.KindIncremental},
	} {
		answers.Store(&step.granted)
		day.Store(&step.day)
		if x := runWith(t, e, s, RunOptions{}); x.Kind != step.kind {
			t.Errorf("export %d is %s, want %s", i+1, x.Kind, step.kind)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.watermark WHERE wants_full_at IS NOT NULL`); n != 0 {
		t.Error("a full export is still due")
	}
}

func TestTOK4_a_full_export_that_fails_is_tried_again_a_week_later_and_the_data_stay_fresh(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, answers := granting(t, nil)
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n == 3 {
			w.WriteHeader(http.StatusBadRequest)
		}
		return n != 3
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	want := func(kind store.Kind, types ...string) {
		t.Helper()
		answers.Store(&types)
		if x := runWith(t, e, s, RunOptions{}); x.Kind != kind {
			t.Errorf("export %d is %s, want %s", x.ID, x.Kind, kind)
		}
	}
	want(store.KindFull, "Patient")
	want(store.KindIncremental, "Patient", "Coverage")
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the refusal", func() bool { return state(t, s, id) == store.StateFailed })
	want(store.KindIncremental, "Patient", "Coverage")
	want(store.KindIncremental, "Patient", "Coverage")
	if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET created_at = now() - '8 days'::interval WHERE id <= $1`, id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.watermark SET wants_full_at = now() - '9 days'::interval`); err != nil {
		t.Fatal(err)
	}
	want(store.KindFull, "Patient", "Coverage")
	want(store.KindIncremental, "Patient", "Coverage")
}

func TestTOK4_what_is_granted_once_the_kick_off_was_accepted_counts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, answers := granting(t, nil)
	answers.Store(&[]string{"Patient", "Claim"})
	p.onKickOff = func(http.ResponseWriter, int) bool { // the token is refused meanwhile, and another one taken
		answers.Store(&[]string{"Claim", "Coverage"})
		return true
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	if x := runWith(t, e, s, RunOptions{}); !slices.Equal(x.Granted, []string{"Claim"}) {
		t.Errorf("got %v, want what is granted before and after", x.Granted)
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
