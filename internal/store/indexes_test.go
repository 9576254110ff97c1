package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

// buildIndexes builds the indexes of payer p and returns what had to be built, as "index table".
func buildIndexes(t *testing.T, s *store.Store, indexes ...store.Index) ([]string, error) {
	t.Helper()
	lease, err := s.LockIndexes(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(t.Context())
	var built []string
	err = s.BuildIndexes(t.Context(), lease, "p", indexes, func(b store.BuiltIndex) { built = append(built, b.Index+" "+b.Table) })
	return built, err
}

// indexesOf returns the definitions of the valid indexes of a table of schema fhir.
func indexesOf(t *testing.T, s *store.Store, table string) []string {
	t.Helper()
	var all []string
	err := s.Pool().QueryRow(t.Context(), `
		SELECT coalesce(array_agg(pg_get_indexdef(indexrelid)), '{}') FROM pg_index
		WHERE indrelid = ('fhir.' || quote_ident($1))::regclass AND indisvalid`, table).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBuildIndexes_builds_what_is_missing_and_exchanges_what_has_changed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Payer: "p"}, output("Patient", patient("a", "", "1"), patient("b", "", "2")))
	run(t, s, store.NewExport{Payer: "other"}, output("Patient", patient("a", "", "1")))
	own := len(indexesOf(t, s, "patient__p"))

	updated := store.Index{Name: "updated", Types: []string{"Patient", "Coverage"}, Columns: "last_updated"}
	content := store.Index{Name: "content", Columns: "resource jsonb_path_ops", Using: "gin", Where: "patient_id IS NOT NULL"}
	for _, step := range []struct {
		what    string
		indexes []store.Index
		built   []string
		stand   int
		holds   string
	}{
		{"at first", []store.Index{updated}, []string{"updated patient__p"}, 1, "btree (last_updated)"},
		{"again", []store.Index{updated}, nil, 1, "btree (last_updated)"},
		{"with another", []store.Index{updated, content}, []string{"content patient__p"}, 2, "gin (resource jsonb_path_ops) WHERE (patient_id IS NOT NULL)"},
		{
			"changed",
			[]store.Index{{Name: "updated", Columns: "last_updated DESC, id"}, content},
			[]string{"updated patient__p"},
			2, "btree (last_updated DESC, id)",
		},
		{"no longer listed", []store.Index{content}, nil, 2, "btree (last_updated DESC, id)"},
	} {
		built, err := buildIndexes(t, s, step.indexes...)
		if err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		stand := indexesOf(t, s, "patient__p")
		if !slices.Equal(built, step.built) || len(stand) != own+step.stand ||
			!slices.ContainsFunc(stand, func(sql string) bool { return strings.HasSuffix(sql, step.holds) }) {
			t.Errorf("%s: built %q, and there are %q; want %q built, and %d beside the %d of all tables, with %q",
				step.what, built, stand, step.built, step.stand, own, step.holds)
		}
	}
	if got := indexesOf(t, s, "patient__other"); len(got) != own {
		t.Errorf("another payer's table has the indexes %q", got)
	}
}

// A build that breaks off leaves an index that Postgres keeps up to date and does not use: it must go, and be built again.
func TestBuildIndexes_repeats_a_build_that_broke_off(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Payer: "p"}, output("Patient", patient("a", "", "1")))
	index := store.Index{Name: "updated", Columns: "last_updated"}
	reader, err := s.Pool().Begin(t.Context()) // CREATE INDEX CONCURRENTLY waits for those that may read without the index
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; INSERT INTO fhir.patient (payer, id, resource, digest, export_id)
		VALUES ('p', 'z', '{}', '', 0)`); err != nil {
		t.Fatal(err)
	}
	lease, err := s.LockIndexes(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- s.BuildIndexes(t.Context(), lease, "p", []store.Index{index}, func(store.BuiltIndex) {})
	}()
	until(t, s, `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'
		AND datname = current_database() AND wait_event_type = 'Lock'`, 1)
	if _, err := s.Pool().Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'
		AND datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("a build whose backend was ended did not say so")
	}
	lease.Release(t.Context())
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if built, err := buildIndexes(t, s, index); err != nil || len(built) != 1 {
		t.Fatalf("built %q, %v; want the index", built, err)
	}
	var invalid int
	err = s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_index WHERE indrelid = 'fhir.patient__p'::regclass AND NOT indisvalid`).Scan(&invalid)
	if err != nil || invalid != 0 {
		t.Errorf("%d invalid indexes are left (%v)", invalid, err)
	}
}

func TestBuildIndexes_builds_the_others_where_one_is_wrong(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Payer: "p"}, output("Patient", patient("a", "", "1")), output("Coverage"))
	built, err := buildIndexes(t, s, store.Index{Name: "wrong", Columns: "no_such_column"}, store.Index{Name: "right", Columns: "version_id"})
	if err == nil || !strings.Contains(err.Error(), "index wrong on patient__p") || !strings.Contains(err.Error(), "no_such_column") {
		t.Errorf("got %v, want the index, the table and the column", err)
	}
	if !slices.Equal(built, []string{"right patient__p"}) {
		t.Errorf("built %q, want the right one", built)
	}
}

// until waits until a query counts n, for at most ten seconds.
func until(t *testing.T, s *store.Store, sql string, n int) {
	t.Helper()
	got := -1
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err := s.Pool().QueryRow(t.Context(), sql).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got == n {
			return
		}
	}
	t.Fatalf("got %d, want %d of: %s", got, n, sql)
}
