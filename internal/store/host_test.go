package store_test

import (
	"errors"
	"testing"
	"time"

	"ingestd/internal/store"
)

const host = "https://payer.example"

func TestFILE10_a_host_that_pushes_back_is_left_alone_and_then_asked_less(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	files := []testFile{output("Patient", "1"), output("Patient", "2"), output("Patient", "3"), output("Patient", "4")}
	e := begin(t, s, store.NewExport{}, files...)
	var leases []*store.Lease
	take := func() (bool, error) {
		t.Helper()
		lease, err := s.LockFile(t.Context(), e.ID, len(leases))
		if err != nil {
			t.Fatal(err)
		}
		limited, err := s.TakeSlot(t.Context(), lease, host)
		if err != nil {
			lease.Release(t.Context())
			return limited, err
		}
		leases = append(leases, lease)
		return limited, nil
	}
	if limited, err := take(); limited || err != nil {
		t.Fatalf("a host that never pushed back: got %t, %v", limited, err)
	}
	leases[0].Release(t.Context())
	leases = nil

	if err := s.HostRefused(t.Context(), host, time.Hour); err != nil {
		t.Fatal(err)
	}
	var busy *store.HostBusyError
	if _, err := take(); !errors.As(err, &busy) || busy.Wait < 59*time.Minute {
		t.Fatalf("while it asks for patience: got %v", err)
	}
	changeHost(t, s, `UPDATE ingest.host SET blocked_until = now()`)
	for range 2 { // half of the four that were in work
		if limited, err := take(); !limited || err != nil {
			t.Fatalf("within its allowance: got %t, %v", limited, err)
		}
	}
	if _, err := take(); !errors.As(err, &busy) || busy.Wait > time.Second {
		t.Fatalf("beyond its allowance: got %v", err)
	}
	leases[1].Release(t.Context())
	leases = leases[:1]
	if _, err := take(); err != nil {
		t.Errorf("a slot that was given back: got %v", err)
	}
	for _, lease := range leases {
		lease.Release(t.Context())
	}

	allowance := func() int { return count(t, s, `SELECT coalesce(allowance, -1) FROM ingest.host`) }
	if err := s.HostRefused(t.Context(), host, time.Second); err != nil || allowance() != 2 {
		t.Errorf("a refusal of what was on its way: got %d (%v), want 2 as before", allowance(), err)
	}
	if err := s.HostServed(t.Context(), host); err != nil || allowance() != 2 {
		t.Errorf("a success straight after: got %d (%v), want 2 as before", allowance(), err)
	}
	changeHost(t, s, `UPDATE ingest.host SET slowed_at = now() - interval '1 minute'`)
	if err := s.HostServed(t.Context(), host); err != nil || allowance() != 3 {
		t.Errorf("a success after a while: got %d (%v), want one more", allowance(), err)
	}
	if err := s.HostRefused(t.Context(), host, time.Second); err != nil || allowance() != 1 {
		t.Errorf("a new refusal: got %d (%v), want half", allowance(), err)
	}
	changeHost(t, s, `UPDATE ingest.host SET slowed_at = now() - interval '1 minute', grown_at = NULL, allowance = 64`)
	if err := s.HostServed(t.Context(), host); err != nil || allowance() != -1 {
		t.Errorf("a host that has recovered: got %d (%v), want no allowance", allowance(), err)
	}
}

func changeHost(t *testing.T, s *store.Store, sql string) {
	t.Helper()
	if _, err := s.Pool().Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
