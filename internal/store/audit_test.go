package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestAudit_is_committed_with_the_change_or_not_at_all(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	by := store.Actor{Name: "a\x00b", Source: store.SourceAPI, Host: "h", RemoteAddress: "192.0.2.1"}
	for _, fails := range []error{nil, errCut} {
		_ = s.InTx(t.Context(), func(tx pgx.Tx) error {
			if err := s.AuditTx(t.Context(), tx, by, store.ActionPause, store.PayerObject("p"), map[string]any{"n": 1}); err != nil {
				t.Fatal(err)
			}
			return fails
		})
	}
	got, err := s.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionPause, Object: "payer p", Since: time.Now().Add(-time.Hour)}, 10)
	if err != nil || len(got) != 1 {
		t.Fatalf("got %d events, %v; want 1", len(got), err)
	}
	if e := got[0]; e.Actor != "a\uFFFDb" || e.RemoteAddress != "192.0.2.1" || e.Details["n"] != 1.0 || e.DatabaseRole == "" {
		t.Errorf("got %+v", e)
	}
	for _, f := range []store.AuditFilter{{Since: time.Now().Add(time.Hour)}, {Action: "x"}, {Object: "x"}} {
		if got, err := s.AuditEvents(t.Context(), f, 10); err != nil || len(got) != 0 {
			t.Errorf("%+v: got %d events, %v", f, len(got), err)
		}
	}
}

func TestMigrate_records_who_migrated(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{URL: testpg.New(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	applied, err := s.MigrateBy(t.Context(), store.Actor{Name: "alice", Source: store.SourceCLI})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionMigrate}, 100)
	if err != nil || len(got) == 0 || len(got) >= len(applied) || got[len(got)-1].Object != "schema 0005_audit" || got[0].Actor != "alice" {
		t.Errorf("of %d migrations got %+v, %v; want those from the table's own on", len(applied), got, err)
	}
}
