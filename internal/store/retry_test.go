package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

// retryable is an export with three lines that only mended text can hold, and one that nothing can.
func retryable(t *testing.T, s *store.Store, n store.NewExport) store.Export {
	t.Helper()
	return run(t, s, n, output("Patient", patient("a", "2026-01-01T00:00:00Z", "published"),
		`{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"2026-01-02T00:00:00Z"},"note":"\u0000"}`,
		`{"resourceType":"Patient","id":"b","note":"x\u0000y"}`, `{"resourceType":"Patient","id":"c","note":"\ud800"}`,
		`{"resourceType":"Patient"`))
}

func TestRetryQuarantine(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := retryable(t, s, store.NewExport{})
	if e.Quarantined != 4 {
		t.Fatalf("%d lines in quarantine", e.Quarantined)
	}

	same, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{History: "all"})
	if want := (store.Retried{Lines: 4, Refused: 4}); err != nil || same != want {
		t.Errorf("as before: %+v, %v; want %+v", same, err, want)
	}
	mended, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{History: "all", RepairText: true})
	if want := (store.Retried{Lines: 4, Inserted: 2, Updated: 1, Refused: 1}); err != nil || mended != want {
		t.Errorf("mended: %+v, %v; want %+v", mended, err, want)
	}
	var rows, history int
	err = s.Pool().QueryRow(t.Context(), `SELECT
		(SELECT count(*) FROM fhir.patient WHERE payer = 'p' AND export_id = $1 AND id IN ('a', 'b', 'c') AND resource ? 'note'
			AND (id <> 'a' OR last_updated = '2026-01-02')),
		(SELECT count(*) FROM fhir_history.patient WHERE id = 'a' AND reason = 'updated')`, e.ID).Scan(&rows, &history)
	if err != nil || rows != 3 || history != 1 {
		t.Errorf("%d rows published and %d in the history, %v", rows, history, err)
	}
	left, err := s.Quarantine(t.Context(), store.QuarantineFilter{ExportID: e.ID}, 10)
	if err != nil || len(left) != 1 || left[0].Line != 5 {
		t.Errorf("in quarantine are %+v, %v", left, err)
	}
	all, err := s.Quarantine(t.Context(), store.QuarantineFilter{ExportID: e.ID, Loaded: true}, 10)
	if err != nil || len(all) != 4 || all[0].Result != "loaded" || all[3].Result != "" {
		t.Errorf("with those that were loaded: %+v, %v", all, err)
	}
	events, err := s.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionRetryQuarantine}, 10)
	if err != nil || len(events) != 2 || events[0].Object != store.ExportObject(e.ID) {
		t.Errorf("the audit says %+v, %v; want an event for each of two retries", events, err)
	}
	if again, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{RepairText: true}); err != nil || again.Lines != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	// The next export finds what a retry loaded as it finds its own.
	next := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("b", "", "new"), patient("c", "", "new")))
	if next.Updated != 2 || next.Ghosts != 1 {
		t.Errorf("the next export: %+v", next.Ledger)
	}
}

func TestRetryQuarantine_of_a_type_that_was_never_published(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Observation", `{"resourceType":"Observation","id":"o","note":[{"text":"\u0000"}]}`))
	got, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{RepairText: true})
	if want := (store.Retried{Lines: 1, Inserted: 1}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// What is quarantined of other files is no resource, and what stands in a file of another type does so now, too (protocol.md ND-3).
func TestRetryQuarantine_loads_nothing_that_an_export_would_not(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), observation("o", "a", "1")),
		testFile{store.FileDeleted, "Bundle", []string{`{"resourceType":"Bundle","id":"b","type":"batch","entry":[]}`}, -1})
	got, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{})
	if want := (store.Retried{Lines: 2, Refused: 2}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// Files are loaded side by side, and their lines come to the quarantine in any order.
func TestRetryQuarantine_takes_the_later_line_of_the_later_file(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	line := func(note string) string { return `{"resourceType":"Patient","id":"a","note":"\u0000` + note + `"}` }
	files := []testFile{output("Patient", line("first")), output("Patient", line("second"))}
	e := begin(t, s, store.NewExport{}, files...)
	for _, ordinal := range []int{1, 0} {
		if _, err := loadFile(t, s, e, ordinal, &lines{text: files[ordinal].lines}, 0); err != nil {
			t.Fatal(err)
		}
		loaded(t, s, e, ordinal)
	}
	if _, err := publish(t, s, e.ID, permissive); err != nil {
		t.Fatal(err)
	}
	got, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{RepairText: true})
	if want := (store.Retried{Lines: 2, Inserted: 1, Superseded: 1}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if a := rows(t, s, "fhir.patient")["a"]; !strings.Contains(a.Resource, "second") {
		t.Errorf("got %s, want the second file's", a.Resource)
	}
}

func TestRetryQuarantine_yields_to_another_line_of_the_same_resource_that_may_have_come_later(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Patient", `{"resourceType":"Patient","id":"a","note":"\u0000"}`, patient("a", "", "later")))
	got, err := s.RetryQuarantine(t.Context(), e.ID, store.RetryOptions{RepairText: true})
	if want := (store.Retried{Lines: 1, Superseded: 1}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if a := rows(t, s, "fhir.patient")["a"]; !strings.Contains(a.Resource, "later") {
		t.Errorf("got %s, want the later line's", a.Resource)
	}
}

// A reader of another payer's rows holds the table, and others come behind it: neither they nor the retry wait.
func TestRetryQuarantine_of_a_type_that_was_never_published_keeps_no_reader_waiting(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Payer: "other"}, output("Observation", observation("o", "a", "1")))
	e := run(t, s, store.NewExport{}, output("Observation", `{"resourceType":"Observation","id":"o","note":[{"text":"\u0000"}]}`))
	reader, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := reader.Exec(t.Context(), `SELECT count(*) FROM fhir.observation`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := s.RetryQuarantine(ctx, e.ID, store.RetryOptions{RepairText: true})
	if want := (store.Retried{Lines: 1, Inserted: 1}); err != nil || got != want {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	// The name of the index must not be that of this payer's partition.
	other := run(t, s, store.NewExport{Payer: "p_pkey"}, output("Observation", observation("o", "a", "1")))
	wantLedger(t, other, store.Ledger{Lines: 1, Inserted: 1})
}

// What a later export said stands: a retry must bring nothing back.
func TestRetryQuarantine_yields_to_later_exports(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	mend := store.RetryOptions{RepairText: true}
	e := retryable(t, s, store.NewExport{})

	running := begin(t, s, store.NewExport{Kind: store.KindIncremental}, output("Patient"))
	if _, err := s.RetryQuarantine(t.Context(), e.ID, mend); !errors.Is(err, store.ErrExportRunning) {
		t.Errorf("while an export runs: %v", err)
	}
	if _, err := s.RetryQuarantine(t.Context(), running.ID, mend); !errors.Is(err, store.ErrNotPublished) {
		t.Errorf("of an export that is not published: %v", err)
	}
	if _, err := s.RetryQuarantine(t.Context(), 4711, mend); !errors.Is(err, store.ErrNoExport) {
		t.Errorf("of no export: %v", err)
	}
	stage(t, s, running, output("Patient"))
	if _, err := publish(t, s, running.ID, permissive); err != nil {
		t.Fatal(err)
	}

	run(t, s, store.NewExport{Kind: store.KindIncremental}, output("Patient", patient("b", "", "later")))
	got, err := s.RetryQuarantine(t.Context(), e.ID, mend)
	if want := (store.Retried{Lines: 4, Inserted: 1, Updated: 1, Superseded: 1, Refused: 1}); err != nil || got != want {
		t.Errorf("behind an incremental export: %+v, %v; want %+v", got, err, want)
	}

	e = retryable(t, s, store.NewExport{Kind: store.KindIncremental})
	run(t, s, store.NewExport{Kind: store.KindIncremental}, testFile{store.FileDeleted, "Bundle", []string{bundle([]string{"c"})}, -1})
	if _, err := s.RetryQuarantine(t.Context(), e.ID, mend); !errors.Is(err, store.ErrOvertaken) {
		t.Errorf("behind deletions: %v", err)
	}
	e = retryable(t, s, store.NewExport{})
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	if _, err := s.RetryQuarantine(t.Context(), e.ID, mend); !errors.Is(err, store.ErrOvertaken) {
		t.Errorf("behind a full export: %v", err)
	}
}
