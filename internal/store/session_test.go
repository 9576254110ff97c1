package store_test

import (
	"errors"
	"strings"
	"testing"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestOpen_refuses_a_pooler_that_gives_each_transaction_another_session(t *testing.T) {
	t.Parallel()
	direct, other := testpg.New(t, migrate), testpg.New(t, migrate)
	bouncer, keeping := testpg.NewBouncer(t, 3), testpg.NewSessionBouncer(t, 20)
	pooled := bouncer.URL(direct)
	for _, c := range []struct {
		name, url, direct, key string
		want                   error
	}{
		{"without a pooler", direct, "", "", nil},
		{"a pooler by sessions", keeping.URL(direct), "", "", nil},
		{"a pooler by transactions", pooled, "", "database.url", store.ErrNoSession},
		{"with a direct URL", pooled, direct, "", nil},
		{"with a direct URL by sessions", pooled, keeping.URL(direct), "", nil},
		{"with a direct URL that is the pooler's", pooled, pooled, "database.direct_url", store.ErrNoSession},
		{"with the direct URL of another database", pooled, other, "database.direct_url", store.ErrOtherDatabase},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(t.Context(), store.Options{URL: c.url, DirectURL: c.direct})
			if err == nil {
				defer s.Close()
				err = s.CheckSchema(t.Context())
			}
			if !errors.Is(err, c.want) || c.want != nil && !strings.HasPrefix(err.Error(), c.key) {
				t.Errorf("got %v, want %v of %q", err, c.want, c.key)
			}
		})
	}
}

func TestMigrate_by_the_direct_connection_makes_an_empty_database_through_a_pooler(t *testing.T) {
	t.Parallel()
	direct := testpg.New(t, nil)
	bouncer := testpg.NewBouncer(t, 2)
	s, err := store.Open(t.Context(), store.Options{URL: bouncer.URL(direct), DirectURL: direct, MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		if _, err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	lease, err := s.LockExport(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockExport(t.Context(), 1); !errors.Is(err, store.ErrLocked) {
		t.Errorf("got %v, want that the lock holds", err)
	}
	lease.Release(t.Context())
}
