package scheduler

import (
	"context"
	"testing"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }

func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Migrate(ctx)
	return err
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: testpg.New(t, migrate), MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
