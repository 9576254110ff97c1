package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ingestd/internal/store"
)

func TestRemovePayer_removes_all_of_one_payer_and_nothing_of_another(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	load := func(payer string, full bool, lines ...string) store.Export {
		t.Helper()
		file := output("Patient", lines...)
		e := begin(t, s, store.NewExport{Payer: payer, RemovesGhosts: full}, file)
		stage(t, s, e, file)
		options := permissive
		options.Watermark = time.Now()
		published, err := publish(t, s, e.ID, options)
		if err != nil {
			t.Fatal(err)
		}
		return published
	}
	for _, payer := range []string{"gone", "stays"} {
		load(payer, true, patient("a", "", "1"), patient("b", "", "1"), "not JSON")
		load(payer, true, patient("a", "", "2"))
	}
	if _, err := s.RemovePayer(t.Context(), "gone", store.Actor{Name: "an auditor"}); !errors.Is(err, store.ErrExportRunning) {
		t.Fatalf("got %v for a payer whose exports are not cleaned up", err)
	}
	if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET cleaned_up_at = now()`); err != nil {
		t.Fatal(err)
	}
	everything := []string{
		`SELECT count(*) FROM fhir.patient WHERE payer = $1`, `SELECT count(*) FROM fhir_history.patient WHERE payer = $1`,
		`SELECT count(*) FROM ingest.export WHERE payer = $1`, `SELECT count(*) FROM ingest.watermark WHERE payer = $1`,
		`SELECT count(*) FROM ingest.quarantine WHERE payer = $1`,
	}
	counts := func(payer string) (all []int64) {
		t.Helper()
		for _, sql := range everything {
			var n int64
			if err := s.Pool().QueryRow(t.Context(), sql, payer).Scan(&n); err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
		}
		return all
	}
	before := counts("stays")

	// A reader holds the table for a moment, and is not kept waiting, nor waited for without end.
	conn, err := s.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reader, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), `SELECT count(*) FROM fhir.patient`); err != nil {
		t.Fatal(err)
	}
	read := time.AfterFunc(500*time.Millisecond, func() { _ = reader.Rollback(t.Context()); conn.Release() })
	defer read.Stop()
	removed, err := s.RemovePayer(t.Context(), "gone", store.Actor{Name: "an auditor"})
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionRemovePayer}, 10)
	if err != nil || len(events) != 1 || events[0].Object != "payer gone" || events[0].Actor != "an auditor" {
		t.Errorf("the audit says %+v, %v", events, err)
	}
	if removed.Tables != 1 || removed.Exports != 2 || removed.Watermarks != 1 || removed.History == 0 {
		t.Errorf("removed %+v", removed)
	}
	for i, n := range counts("gone") {
		if n != 0 {
			t.Errorf("%s: %d rows are left", everything[i], n)
		}
	}
	for i, n := range counts("stays") {
		if n != before[i] {
			t.Errorf("%s of the other payer: %d, want %d", everything[i], n, before[i])
		}
	}
	if known, err := s.HasPayer(t.Context(), "gone"); err != nil || known {
		t.Errorf("the payer is known: %v, %v", known, err)
	}
	if again := load("gone", true, patient("a", "", "3")); again.Inserted != 1 {
		t.Errorf("a payer that comes back is loaded with %+v", again.Ledger)
	}
}

// The deletes take their time. Here somebody holds a row of the history, so that they take longer than a lock may be waited for.
func TestRemovePayer_keeps_no_reader_waiting_while_it_deletes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Payer: "stays"}, output("Patient", patient("a", "", "1")))
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1")))
	if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET cleaned_up_at = now()`); err != nil {
		t.Fatal(err)
	}
	holder, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), `SELECT FROM fhir_history.patient FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.Go(func() error {
		_, err := s.RemovePayer(t.Context(), "p", store.Actor{Name: "an operator"})
		return err
	})
	until(t, s, `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DELETE FROM "fhir_history"."patient"%'
		AND datname = current_database() AND wait_event_type = 'Lock'`, 1)
	if _, err := s.Pool().Exec(t.Context(), `BEGIN; LOCK TABLE fhir.patient IN ACCESS SHARE MODE NOWAIT; COMMIT`); err != nil {
		t.Errorf("a reader: %v", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if left := rows(t, s, "fhir.patient"); len(left) != 1 {
		t.Errorf("%v is left, want the other payer's row", left)
	}
}
