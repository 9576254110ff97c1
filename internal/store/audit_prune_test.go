package store_test

import (
	"errors"
	"testing"
	"time"

	"ingestd/internal/store"
)

func TestAudit_is_pruned_by_its_owner_and_never_when_young(t *testing.T) {
	t.Parallel()
	at := separated(t, split)
	owner := openAs(t, at, ownerRole)
	now := time.Now()
	exec(t, owner, `INSERT INTO ingest.audit_event (at, actor, source, action, object)
		SELECT now() - make_interval(years => n), 'ann', 'cli', 'run', 'export 1' FROM generate_series(1, 8) AS n`)
	events := func() int { return count(t, owner, `SELECT count(*) FROM ingest.audit_event WHERE actor = 'ann'`) }

	var forbidden *store.AuditOwnerError
	o := store.AuditPrune{Before: now.AddDate(-7, 0, 1), By: store.Actor{Name: "the DBA"}}
	if n, err := openAs(t, at, ingestRole).PruneAudit(t.Context(), o); n != 0 || !errors.As(err, &forbidden) || forbidden.Role != ingestRole || events() != 8 {
		t.Errorf("the ingest role: pruned %d, %v", n, err)
	}
	if n, err := owner.PruneAudit(t.Context(), o); n != 2 || err != nil || events() != 6 {
		t.Errorf("pruned %d, %v, want the events of seven years ago and before", n, err)
	}
	if n, err := owner.PruneAudit(t.Context(), o); n != 0 || err != nil {
		t.Errorf("again: pruned %d, %v", n, err)
	}
	told, err := owner.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionPruneAudit}, 10)
	if err != nil || len(told) != 1 || told[0].Actor != "the DBA" || told[0].Details["events"] != 2.0 || told[0].Details["forced"] != false {
		t.Errorf("the audit says %v, %v", told, err)
	}

	var young *store.YoungAuditError
	o.Before = now.AddDate(-5, 0, 1)
	if n, err := owner.PruneAudit(t.Context(), o); n != 0 || !errors.As(err, &young) || young.Forced || events() != 6 {
		t.Errorf("younger than six years: pruned %d, %v", n, err)
	}
	o.Force = true
	if n, err := owner.PruneAudit(t.Context(), o); n != 2 || err != nil || events() != 4 {
		t.Errorf("forced: pruned %d, %v", n, err)
	}
	o.Before = now.AddDate(0, 0, 1)
	if n, err := owner.PruneAudit(t.Context(), o); n != 0 || !errors.As(err, &young) || !young.Forced || events() != 4 {
		t.Errorf("what is to come: pruned %d, %v", n, err)
	}
}
