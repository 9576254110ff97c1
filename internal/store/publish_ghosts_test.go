package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestINC4_ghosts_leave_after_a_full_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")),
		output("Observation", observation("x", "a", "1")))

	incremental := run(t, s, store.NewExport{Kind: store.KindIncremental}, output("Patient", patient("a", "", "2")))
	wantLedger(t, incremental, store.Ledger{Lines: 1, Updated: 1})

	full := run(t, s, store.NewExport{RemovesGhosts: true, Types: []string{"Patient"}}, output("Patient", patient("a", "", "2")))
	wantLedger(t, full, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
	if got := rows(t, s, "fhir.observation"); len(got) != 1 {
		t.Errorf("a type that was not asked for lost its rows: %v", got)
	}

	all := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "2")))
	wantLedger(t, all, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
	if got := rows(t, s, "fhir.observation"); len(got) != 0 {
		t.Errorf("a type that a full export of all types no longer holds keeps its rows: %v", got)
	}
}

func TestINC4_no_ghosts_leave_while_lines_are_in_quarantine(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	e := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1"), `{"resourceType":"Patient","id":"b"`))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Quarantined: 1})
}

func TestINC4_no_ghosts_leave_where_a_file_may_have_been_cut_off(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	file := output("Patient", patient("a", "", "1"))
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
	f, err := loadFile(t, s, e, 0, &lines{text: file.lines}, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = s.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := s.FileLoadedTx(t.Context(), tx, e, f, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	published, err := publish(t, s, e.ID, permissive)
	if err != nil {
		t.Fatal(err)
	}
	wantLedger(t, published, store.Ledger{Lines: 1, Unchanged: 1})
}

func TestPublish_is_held_back_where_too_much_would_go(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	files := []testFile{output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("c", "", "1"))}
	run(t, s, store.NewExport{}, files...)
	files[0].lines = files[0].lines[:1]
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, files...)
	stage(t, s, e, files...)

	guarded := permissive
	guarded.GhostMaxShare = 0.5
	_, err := publish(t, s, e.ID, guarded)
	var held *store.HeldError
	if !errors.As(err, &held) || held.Ghosts != 2 || held.Rows != 3 {
		t.Fatalf("got %v, want it held: 2 of 3", err)
	}
	if x := get(t, s, e.ID); x.State != store.StateHeld {
		t.Errorf("got state %s, want held", x.State)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 3 {
		t.Errorf("a held export changed the table: %v", got)
	}
	if err := s.InTx(ctx, func(tx pgx.Tx) error { return s.ReleaseTx(ctx, tx, e.ID, "operator") }); err != nil {
		t.Fatal(err)
	}
	released, err := publish(t, s, e.ID, guarded)
	if err != nil {
		t.Fatal(err)
	}
	wantLedger(t, released, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 2})
}

func TestPublish_is_not_held_back_for_rows_of_types_that_were_not_asked_for(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Types: []string{"Patient"}}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	files := []testFile{
		output("Patient", patient("a", "", "1"), patient("b", "", "1")),
		output("Observation", observation("x", "a", "1"), observation("y", "a", "1"), observation("z", "a", "1")),
	}
	e := begin(t, s, store.NewExport{Types: []string{"Patient"}, RemovesGhosts: true}, files...)
	stage(t, s, e, files...)
	guarded := permissive
	guarded.GhostMaxShare = 0.1
	published, err := publish(t, s, e.ID, guarded)
	if err != nil {
		t.Fatal(err)
	}
	wantLedger(t, published, store.Ledger{Lines: 5, Inserted: 3, Unchanged: 2})
}

// completeAt moves the transactionTime of an export that is being loaded.
func completeAt(t *testing.T, s *store.Store, e store.Export, at time.Time) {
	t.Helper()
	_, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET transaction_at = $2 WHERE id = $1`, e.ID, at)
	if err != nil {
		t.Fatal(err)
	}
}

func TestINC4_a_full_export_that_is_older_than_the_last_removes_no_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	may := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	first := output("Patient", patient("a", "", ""), patient("b", "", ""))
	e := begin(t, s, store.NewExport{}, first)
	completeAt(t, s, e, may)
	stage(t, s, e, first)
	if _, err := publish(t, s, e.ID, permissive); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   time.Time
		left int
	}{
		{"a cached job of the day before", may.AddDate(0, 0, -1), 2},
		{"a job that does not say of when it is", time.Time{}, 2},
		{"a job of the same instant", may, 1},
	} {
		file := output("Patient", patient("a", "", ""))
		e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
		if test.at.IsZero() {
			if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET transaction_at = NULL WHERE id = $1`, e.ID); err != nil {
				t.Fatal(err)
			}
		} else {
			completeAt(t, s, e, test.at)
		}
		stage(t, s, e, file)
		if _, err := publish(t, s, e.ID, permissive); err != nil {
			t.Fatal(err)
		}
		if got := len(rows(t, s, "fhir.patient")); got != test.left {
			t.Errorf("%s: %d patients are left, want %d", test.name, got, test.left)
		}
	}
}

func TestINC4_what_a_back_fill_of_a_later_instant_brought_is_no_ghost(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	publishAt := func(day int, n store.NewExport, files ...testFile) store.Export {
		t.Helper()
		e := begin(t, s, n, files...)
		completeAt(t, s, e, time.Date(2026, 5, day, 0, 0, 0, 0, time.UTC))
		stage(t, s, e, files...)
		e, err := publish(t, s, e.ID, permissive)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	publishAt(1, store.NewExport{}, output("Patient", patient("a", "", "1")), output("Observation", observation("gone", "a", "1")))
	publishAt(3, store.NewExport{Kind: store.KindBackfill, Patients: []string{"b"}}, output("Observation", observation("of b", "b", "3")))
	// A job that the payer kept from before b joined, yet later than the last export but for the back-fill.
	kept := publishAt(2, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1")))
	wantLedger(t, kept, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
	if got := rows(t, s, "fhir.observation"); len(got) != 1 || got["of b"].ID == "" {
		t.Errorf("got %v, want what the back-fill brought", got)
	}
	publishAt(4, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1")))
	if got := rows(t, s, "fhir.observation"); len(got) != 0 {
		t.Errorf("got %v, want none: a later export no longer holds them", got)
	}
}

func TestKICK7_an_adopted_export_that_does_not_say_what_was_asked_for_removes_no_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := output("Patient", patient("a", "", ""), patient("b", "", ""))
	undated := func(n store.NewExport, adopted bool, files ...testFile) store.Export {
		t.Helper()
		e := begin(t, s, n, files...)
		exec(t, s, `UPDATE ingest.export SET transaction_at = NULL, adopted = $2 WHERE id = $1`, e.ID, adopted)
		stage(t, s, e, files...)
		o := permissive
		o.Watermark = time.Time{}
		e, err := publish(t, s, e.ID, o)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	undated(store.NewExport{}, false, first)
	again := output("Patient", patient("a", "", ""))
	wantLedger(t, undated(store.NewExport{RemovesGhosts: true}, true, again), store.Ledger{Lines: 1, Unchanged: 1})
	wantLedger(t, undated(store.NewExport{RemovesGhosts: true}, false, again), store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
}
