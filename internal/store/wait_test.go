package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// migrationLock is the key that every version of ingestd migrates under.
const migrationLock = 0x696e6765737464

func TestWaitUntilUp_prepares_again_where_the_connection_breaks_meanwhile(t *testing.T) {
	t.Parallel()
	url := testpg.New(t, nil)
	s, err := store.Open(t.Context(), store.Options{URL: url, Lazy: true, MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	// Another instance migrates: ours waits for its turn.
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		t.Fatal(err)
	}
	waits := 0
	done := make(chan error, 1)
	go func() {
		done <- s.WaitUntilUp(t.Context(), func(ctx context.Context) error {
			_, err := s.Migrate(ctx)
			return err
		}, func(error, time.Duration) { waits++ })
	}()
	for killed := 0; killed == 0; {
		err := other.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_locks
			WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&killed)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_unlock($1)`, migrationLock); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatalf("got %v, want it tried again", err)
	}
	if waits != 1 {
		t.Errorf("%d failures were reported, want the broken connection", waits)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}
