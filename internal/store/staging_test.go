package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

// startAgain makes an export that loads start again, as the payer's loss of its job does.
func startAgain(t *testing.T, s *store.Store, e store.Export) store.Export {
	t.Helper()
	if err := s.InTx(t.Context(), func(tx pgx.Tx) error { return s.RestartTx(t.Context(), tx, e.ID, e.Generation) }); err != nil {
		t.Fatal(err)
	}
	return get(t, s, e.ID)
}

func stagingTables(t *testing.T, s *store.Store) (n int) {
	t.Helper()
	err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'ingest_stage'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestVoidStaging_drops_nothing_of_an_export_that_has_been_taken_over(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := output("Patient", patient("a", "", "1"))
	e := begin(t, s, store.NewExport{}, file)
	if _, err := loadFile(t, s, e, 0, &lines{text: file.lines}, 0); err != nil {
		t.Fatal(err)
	}
	hung := startAgain(t, s, e)
	// What a job of the next generation, which took over, has staged by the time the hung one wakes.
	exec(t, s, `UPDATE ingest.export SET generation = generation + 1 WHERE id = $1`, e.ID)
	if err := s.VoidStaging(t.Context(), e.ID, hung.Generation); !store.IsStale(err) || stagingTables(t, s) != 2 {
		t.Errorf("got %v and %d staging tables, want it to come too late, and both to stand", err, stagingTables(t, s))
	}
	if err := s.VoidStaging(t.Context(), e.ID, hung.Generation+1); err != nil || stagingTables(t, s) != 0 {
		t.Errorf("got %v and %d staging tables, want none", err, stagingTables(t, s))
	}
	exec(t, s, `CREATE TABLE ingest_stage.e1_patient ()`)
	exec(t, s, `UPDATE ingest.export SET state = 'loading' WHERE id = $1`, e.ID)
	if err := s.VoidStaging(t.Context(), e.ID, hung.Generation+1); !store.IsStale(err) || stagingTables(t, s) != 1 {
		t.Errorf("got %v and %d staging tables, want those of an export that loads to stand", err, stagingTables(t, s))
	}
}

func TestPublish_refuses_an_export_whose_deletions_vanished_from_staging(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"the table":      `DROP TABLE ingest_stage.e2_deleted`,
		"one of them":    `DELETE FROM ingest_stage.e2_deleted WHERE id = 'a'`,
		"one comes anew": `INSERT INTO ingest_stage.e2_deleted VALUES ('Patient', 'c', 0)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("c", "", "1")))
			files := []testFile{{store.FileDeleted, "Bundle", []string{bundle([]string{"a", "b"})}, -1}, output("Patient", patient("d", "", "1"))}
			e := begin(t, s, store.NewExport{Kind: store.KindIncremental}, files...)
			stage(t, s, e, files...)
			exec(t, s, sql)
			if _, err := publish(t, s, e.ID, permissive); !isA[*store.UnbalancedError](err) {
				t.Errorf("got %v, want it refused", err)
			}
			if got := rows(t, s, "fhir.patient"); len(got) != 3 {
				t.Errorf("got %v, want what was published before", got)
			}
		})
	}
}

func TestPublish_refuses_an_export_that_was_prepared_and_lost_its_staging(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	file := output("Patient", patient("a", "", "2"), patient("b", "", "1"))
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
	stage(t, s, e, file)
	if _, err := publishThen(t, s, e.ID, permissive, errCut); !errors.Is(err, errCut) {
		t.Fatalf("got %v, want the first publish to fail in the end", err)
	}
	exec(t, s, `CREATE TABLE aside AS TABLE ingest_stage.e2_patient; DELETE FROM ingest_stage.e2_patient`)
	if _, err := publish(t, s, e.ID, permissive); !isA[*store.UnbalancedError](err) {
		t.Errorf("a row has gone: got %v, want it refused", err)
	}
	exec(t, s, `INSERT INTO ingest_stage.e2_patient TABLE aside`)
	exec(t, s, `DROP TABLE ingest_stage.e2_patient, ingest_stage.e2_seen_patient`)
	if _, err := publish(t, s, e.ID, permissive); !isA[*store.UnbalancedError](err) {
		t.Errorf("got %v, want it refused", err)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 2 {
		t.Errorf("got %v, want both patients: the export held them", got)
	}
}

// A quarantined resource is loaded by a retry; what a quarantined Bundle deletes, nobody knows.
func TestDEL1_a_Bundle_that_cannot_be_read_holds_the_watermark(t *testing.T) {
	t.Parallel()
	const conditional = `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient?name=x"}}]}`
	for name, test := range map[string]struct {
		line  string
		moves bool
	}{
		"whole":    {bundle([]string{"a"}), true},
		"cut":      {bundle([]string{"a"})[:80], false},
		"too long": {"TOO LONG " + bundle([]string{"a"}), false},
		// These say nothing that would be another when it is asked for again.
		"no Bundle":           {`{"resourceType":"Parameters"}`, true},
		"of another type":     {`{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"DELETE","url":"Patient/a"}}]}`, true},
		"a conditional entry": {conditional, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
			files := []testFile{output("Patient", patient("b", "", "1")), {store.FileDeleted, "Bundle", []string{test.line}, -1}}
			e := begin(t, s, incremental, files...)
			stage(t, s, e, files...)
			o := permissive
			o.Watermark = o.Watermark.Add(time.Hour)
			if _, err := publish(t, s, e.ID, o); err != nil {
				t.Fatal(err)
			}
			if at, err := s.Watermark(t.Context(), "p", "", nil); err != nil || at.Equal(o.Watermark) != test.moves {
				t.Errorf("the watermark stands at %s (%v), want it moved: %v", at, err, test.moves)
			}
		})
	}
}
