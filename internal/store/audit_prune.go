package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditYears is how long documentation is to be kept by 45 CFR 164.316(b)(2)(i). Younger events are pruned only where that is forced.
const AuditYears = 6

// auditBatch is how many events a transaction of PruneAudit deletes.
const auditBatch = 20_000

// YoungAuditError says that events were to be pruned that are to be kept.
type YoungAuditError struct {
	// Before is from when on events are kept, unless that is forced.
	Before time.Time
	// Forced says that it was, for a time that lies ahead of Before, which is now.
	Forced bool
}

func (e *YoungAuditError) Error() string {
	if e.Forced {
		return "that time lies ahead: it is " + e.Before.UTC().Format(time.RFC3339) + " now"
	}
	return fmt.Sprintf("events since %s are younger than the %d years for which HIPAA asks to keep them (45 CFR 164.316(b)(2)(i))",
		e.Before.UTC().Format(time.RFC3339), AuditYears)
}

// AuditOwnerError says that the role of the connection may only add to the audit.
type AuditOwnerError struct{ Role string }

func (e *AuditOwnerError) Error() string {
	return fmt.Sprintf("role %s may only add to the audit: prune it as the owner of schema ingest", e.Role)
}

// AuditPrune says what is pruned of the audit.
type AuditPrune struct {
	Before time.Time
	// Force prunes what is younger than AuditYears, too.
	Force bool
	By    Actor
}

// PruneAudit deletes the events before a time and returns how many. Each of its transactions leaves an event of its own, so that what is missing
// is accounted for. Errors: *YoungAuditError, *AuditOwnerError.
func (s *Store) PruneAudit(ctx context.Context, o AuditPrune) (int64, error) {
	now, err := s.Clock(ctx)
	if err != nil {
		return 0, err
	}
	if oldest := now.AddDate(-AuditYears, 0, 0); !o.Force && o.Before.After(oldest) {
		return 0, &YoungAuditError{Before: oldest}
	}
	if o.Before.After(now) {
		return 0, &YoungAuditError{Before: now, Forced: true}
	}
	var all int64
	for {
		var n int64
		err := s.InTx(ctx, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `DELETE FROM ingest.audit_event WHERE id = ANY (ARRAY(
				SELECT id FROM ingest.audit_event WHERE at < $1 ORDER BY at LIMIT $2))`, o.Before, auditBatch)
			if err != nil {
				return fmt.Errorf("delete audit events: %w", err)
			}
			if n = tag.RowsAffected(); n == 0 {
				return nil
			}
			return s.AuditTx(ctx, tx, o.By, ActionPruneAudit, "audit", map[string]any{
				"before": o.Before.UTC().Format(time.RFC3339Nano), "events": n, "forced": o.Force,
			})
		})
		if SQLState(err) == insufficientPrivilege {
			return all, &AuditOwnerError{Role: s.Role()}
		}
		if err != nil {
			return all, err
		}
		if all += n; n < auditBatch {
			return all, nil
		}
	}
}
