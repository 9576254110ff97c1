package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestSettings_are_forgotten_when_no_export_has_needed_them_for_long(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const long = 90 * 24 * time.Hour
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := s.Pool().Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	start := func(payer, digest string) (id int64) {
		t.Helper()
		err := s.InTx(t.Context(), func(tx pgx.Tx) (err error) {
			id, err = s.CreateExportTx(t.Context(), tx, store.NewExport{
				Payer: payer, Kind: store.KindFull, Trigger: store.TriggerSchedule, Settings: store.Settings{Digest: digest, JSON: []byte(`{}`)},
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	end := func(id int64, cleanedUp bool) {
		t.Helper()
		exec(`UPDATE ingest.export SET state = 'canceled', finished_at = now(), cleaned_up_at = CASE WHEN $2 THEN now() END WHERE id = $1`, id, cleanedUp)
	}
	age := func(payer string) {
		t.Helper()
		exec(`UPDATE ingest.export SET created_at = created_at - interval '100 days' WHERE payer = $1`, payer)
		exec(`UPDATE ingest.settings SET created_at = created_at - interval '100 days' WHERE payer = $1`, payer)
	}
	end(start("old", "gone"), true)
	age("old")
	end(start("old", "of today"), true)
	end(start("young", "used"), true)
	start("slow", "running")
	age("slow")
	end(start("staged", "to be cleaned up"), false)
	age("staged")
	end(start("again", "used again"), true)
	age("again")
	end(start("again", "used again"), true)
	exec(`UPDATE ingest.settings SET created_at = now() - interval '100 days' WHERE payer = 'again'`) // as an older binary leaves it

	if n, err := s.PruneSettings(t.Context(), long); err != nil || n != 1 {
		t.Fatalf("pruned %d: %v", n, err)
	}
	for _, c := range []struct {
		payer, digest string
		want          error
	}{
		{"old", "gone", store.ErrNoSettings},
		{"old", "of today", nil},
		{"young", "used", nil},
		{"slow", "running", nil},
		{"staged", "to be cleaned up", nil},
		{"again", "used again", nil},
	} {
		if _, err := s.Settings(t.Context(), c.payer, c.digest); !errors.Is(err, c.want) {
			t.Errorf("%s of %s: got %v, want %v", c.digest, c.payer, err, c.want)
		}
	}
}

func TestSettings_that_an_export_begins_with_meanwhile_are_not_forgotten(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	settings := store.Settings{Digest: "d", JSON: []byte(`{}`)}
	begin := func(payer string, then func()) {
		t.Helper()
		err := s.InTx(t.Context(), func(tx pgx.Tx) error {
			_, err := s.CreateExportTx(t.Context(), tx, store.NewExport{
				Payer: payer, Kind: store.KindFull, Trigger: store.TriggerSchedule, Settings: settings,
			})
			if then != nil {
				then()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	begin("p", nil)
	if _, err := s.Pool().Exec(t.Context(), `
		UPDATE ingest.export SET state = 'canceled', finished_at = now(), cleaned_up_at = now(), created_at = now() - interval '100 days';
		UPDATE ingest.settings SET created_at = now() - interval '100 days'`); err != nil {
		t.Fatal(err)
	}
	pruned := make(chan error, 1)
	begin("p", func() {
		go func() {
			_, err := s.PruneSettings(t.Context(), 90*24*time.Hour)
			pruned <- err
		}()
		waitForLock(t, s)
	})
	if err := <-pruned; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Settings(t.Context(), "p", "d"); err != nil {
		t.Errorf("got %v, want the settings that the new export began with", err)
	}
}

// waitForLock waits until a statement on the settings waits for another's lock.
func waitForLock(t *testing.T, s *store.Store) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		var waits bool
		err := s.Pool().QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%ingest.settings%')`).Scan(&waits)
		if err != nil || time.Now().After(deadline) {
			t.Errorf("nothing waits for the lock: %v", err)
			return
		}
		if waits {
			return
		}
		time.Sleep(10 * time.Millisecond) // bounded by the deadline
	}
}
