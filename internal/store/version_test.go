package store_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"ingestd/internal/store"
	"ingestd/migrations"
)

func TestCheckSchema_waits_for_the_job_engines_tables_too(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As it is between the migrations of the control schema and the job engine's.
	if _, err := s.Pool().Exec(t.Context(), `DROP SCHEMA river CASCADE; CREATE SCHEMA river`); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrEngineTooOld) {
		t.Errorf("got %v, want that the job engine's tables are missing", err)
	}
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Errorf("after the migration: %v", err)
	}
}

func TestCheckSchema_takes_that_of_a_newer_binary_as_long_as_it_was_only_added_to(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	binary := store.SchemaVersion()
	record := func(version, needs int) {
		t.Helper()
		_, err := s.Pool().Exec(t.Context(), `INSERT INTO ingest.schema_migration (version, name, needs) VALUES ($1, 'of_the_future', $2)`, version, needs)
		if err != nil {
			t.Fatal(err)
		}
	}
	record(binary+1, 0)
	record(binary+2, binary)
	for range 2 {
		if err := s.CheckSchema(t.Context()); err != nil {
			t.Errorf("of what was added: %v", err)
		}
		if applied, err := s.Migrate(t.Context()); err != nil || len(applied) != 0 {
			t.Errorf("migrate by the older binary: got %v, %v", applied, err)
		}
	}
	all, err := s.Migrations(t.Context())
	if err != nil || len(all) != binary+2 || all[binary+1].Name != "of_the_future" || all[binary+1].AppliedAt.IsZero() {
		t.Errorf("listed are %v, %v", all, err)
	}
	record(binary+3, binary+1)
	for name, err := range map[string]error{"check": s.CheckSchema(t.Context()), "migrate": migrateError(t, s)} {
		if tooNew, ok := errors.AsType[*store.SchemaTooNewError](err); !ok || tooNew.Database != binary+3 || tooNew.Binary != binary {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func migrateError(t *testing.T, s *store.Store) error {
	t.Helper()
	_, err := s.Migrate(t.Context())
	return err
}

func TestMigrations_older_than_the_record_of_what_they_need_need_nothing(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(files) != store.SchemaVersion() {
		t.Fatalf("got %v, %v", files, err)
	}
	for _, file := range files[:6] { // the column for it is of the sixth
		text, err := fs.ReadFile(migrations.FS, file)
		if err != nil || strings.Contains(string(text), "-- needs:") {
			t.Errorf("%s: %v, or it needs a version before that can be recorded", file, err)
		}
	}
}
