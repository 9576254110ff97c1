package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestPublish_attaches_a_first_load_and_merges_what_follows(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := run(t, s, store.NewExport{},
		output("Patient", patient("a", "", "1"), patient("b", "", "1")),
		output("Observation", observation("x", "a", "1")))
	wantLedger(t, first, store.Ledger{Lines: 3, Inserted: 3})
	before := rows(t, s, "fhir.patient")

	second := run(t, s, store.NewExport{Kind: store.KindIncremental},
		output("Patient", patient("b", "", "2"), patient("c", "", "1"), patient("a", "", "1")))
	wantLedger(t, second, store.Ledger{Lines: 3, Inserted: 1, Updated: 1, Unchanged: 1})
	after := rows(t, s, "fhir.patient")
	if len(after) != 3 || !strings.Contains(after["b"].Resource, `"2"`) || after["b"].ExportID != second.ID {
		t.Errorf("got %v, want b updated by export %d", after, second.ID)
	}
	if after["a"] != before["a"] {
		t.Errorf("the unchanged row was written: %v, before %v", after["a"], before["a"])
	}
	if got := rows(t, s, "fhir.observation"); len(got) != 1 || got["x"].ExportID != first.ID {
		t.Errorf("got observations %v", got)
	}
}

func TestPublish_of_the_same_data_writes_no_row(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	files := []testFile{output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("a", "", "2"))}
	run(t, s, store.NewExport{}, files...)
	before := rows(t, s, "fhir.patient")
	again := run(t, s, store.NewExport{}, files...)
	// The earlier line of a is now compared with the later one that is published, and loses to it once more.
	wantLedger(t, again, store.Ledger{Lines: 3, Unchanged: 2, Superseded: 1})
	after := rows(t, s, "fhir.patient")
	for id, r := range after {
		if before[id] != r {
			t.Errorf("row %s was written: %v, before %v", id, r, before[id])
		}
	}
}

func TestND6_of_repeated_resources_the_newest_wins_then_the_later_line(t *testing.T) {
	t.Parallel()
	old, recent := "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
	tests := []struct {
		name  string
		files []testFile
		want  string
	}{
		{"later line among equals", []testFile{output("Patient", patient("a", "", "1"), patient("a", "", "2"))}, "2"},
		{"newer first", []testFile{output("Patient", patient("a", recent, "1"), patient("a", old, "2"))}, "1"},
		{"newer last", []testFile{output("Patient", patient("a", old, "1"), patient("a", recent, "2"))}, "2"},
		{"newer in an earlier file", []testFile{
			output("Patient", patient("a", recent, "1")), output("Patient", patient("a", old, "2")),
		}, "1"},
		{"later file among equals", []testFile{
			output("Patient", patient("a", old, "1")), output("Patient", patient("a", old, "2")),
		}, "2"},
		{"dated before undated", []testFile{output("Patient", patient("a", old, "1"), patient("a", "", "2"))}, "1"},
	}
	for _, test := range tests {
		for _, road := range []string{"attach", "merge"} {
			t.Run(test.name+" "+road, func(t *testing.T) {
				t.Parallel()
				s := newStore(t)
				if road == "merge" {
					run(t, s, store.NewExport{}, output("Patient", patient("z", "", "0")))
				}
				e := run(t, s, store.NewExport{Kind: store.KindIncremental}, test.files...)
				wantLedger(t, e, store.Ledger{Lines: 2, Inserted: 1, Superseded: 1})
				if got := rows(t, s, "fhir.patient")["a"].Resource; !strings.Contains(got, fmt.Sprintf("%q", test.want)) {
					t.Errorf("got %s, want note %s", got, test.want)
				}
			})
		}
	}
}

func TestPublish_lets_a_later_line_that_repeats_the_published_version_win(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	before := rows(t, s, "fhir.patient")
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "2"), patient("a", "", "1")))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Superseded: 1})
	if after := rows(t, s, "fhir.patient"); after["a"] != before["a"] {
		t.Errorf("got %v, want it as before, %v", after["a"], before["a"])
	}
}

func TestPublish_never_replaces_a_newer_version(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "2026-02-01T00:00:00Z", "new"), patient("b", "", "1")))
	e := run(t, s, store.NewExport{RemovesGhosts: true},
		output("Patient", patient("a", "2026-01-01T00:00:00Z", "old"), patient("b", "", "1")))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Superseded: 1})
	if got := rows(t, s, "fhir.patient")["a"].Resource; !strings.Contains(got, `"new"`) {
		t.Errorf("got %s, want the newer version", got)
	}
}

func TestPublish_keeps_replaced_versions_where_history_is_all(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	file := output("Patient", patient("a", "", "2"))
	e := begin(t, s, store.NewExport{}, file)
	stage(t, s, e, file)
	all := permissive
	all.History = "all"
	if _, err := publish(t, s, e.ID, all); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, s, "fhir_history.patient"); len(got) != 1 || got["a"].ExportID != first.ID {
		t.Errorf("got history %v, want the version of export %d", got, first.ID)
	}
}

func TestPublish_twice_is_told_that_it_is_done(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	if _, err := publish(t, s, e.ID, permissive); !store.IsStale(err) {
		t.Errorf("got %v, want to be told that it is over", err)
	}
}

func TestPublish_that_fails_in_the_end_shows_nothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := output("Patient", patient("a", "", "1"))
	e := begin(t, s, store.NewExport{}, file)
	stage(t, s, e, file)
	lease, err := s.LockExport(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	fails := errors.New("the next job could not be enqueued")
	_, err = s.Publish(t.Context(), lease, e.ID, permissive, func(context.Context, pgx.Tx) error { return fails })
	lease.Release(t.Context())
	if !errors.Is(err, fails) {
		t.Fatalf("got %v", err)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 0 {
		t.Errorf("half an export is visible: %v", got)
	}
	if _, err := publish(t, s, e.ID, permissive); err != nil {
		t.Fatalf("the publish cannot be repeated: %v", err)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestPublish_announces_the_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	conn, err := s.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `LISTEN `+store.PublishedChannel); err != nil {
		t.Fatal(err)
	}
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n, err := conn.Conn().WaitForNotification(ctx)
	if err != nil || n.Payload != fmt.Sprint(e.ID) {
		t.Errorf("got %v, %v, want export %d", n, err, e.ID)
	}
}

func TestPublish_waits_for_a_reader_no_longer_than_the_lock_timeout(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	tx, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE fhir.patient__p IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	file := output("Observation", observation("x", "a", "1"))
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
	stage(t, s, e, file)
	options := permissive
	options.LockTimeout = 50 * time.Millisecond
	if _, err := publish(t, s, e.ID, options); store.SQLState(err) != "55P03" {
		t.Errorf("got %v, want lock_not_available", err)
	}
}

func TestPartitions_of_payers_whose_names_look_like_index_names(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, payer := range []string{"p", "p_pkey", "p_patient_id", "p__x", "a2345678901234567890123456789012345678901", "a2345678901234567890123456789012345678902"} {
		for _, note := range []string{"first", "second"} {
			e := begin(t, s, store.NewExport{Payer: payer}, output("MedicinalProductDefinition"), output("Patient"))
			files := []testFile{
				output("MedicinalProductDefinition", `{"resourceType":"MedicinalProductDefinition","id":"m","x":"`+note+`"}`),
				output("Patient", patient("a", "", note)),
			}
			stage(t, s, e, files...)
			if _, err := publish(t, s, e.ID, permissive); err != nil {
				t.Errorf("payer %s, %s export: %v", payer, note, err)
			}
		}
	}
	var n int
	if err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM fhir.patient WHERE resource->>'note' = 'second'`).Scan(&n); err != nil || n != 6 {
		t.Errorf("got %d patients, %v, want one of each of 6 payers", n, err)
	}
}
