package scheduler

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

// StateError says that an export is not in a state in which it can be acted on.
type StateError struct {
	ID   int64
	Is   store.State
	Want string
}

func (e *StateError) Error() string {
	return fmt.Sprintf("export %d is %s: expected one that is %s", e.ID, e.Is, e.Want)
}

// SeriesChangedError says that the configuration asks for other resources by now than an export did.
type SeriesChangedError struct{ ID int64 }

func (e *SeriesChangedError) Error() string {
	return fmt.Sprintf("export %d asked for other resources than the configuration does now (server, level, group, types, filters, elements or patients)", e.ID)
}

// Release lets a held export be published as it is, by an operator's decision. The error is store.ErrNoExport, a
// *StateError, or a failure of Postgres.
func (e *Engine) Release(ctx context.Context, id int64, by store.Actor) error {
	return e.decide(ctx, id, func(tx pgx.Tx, x store.Export) error {
		if x.State != store.StateHeld {
			return &StateError{ID: id, Is: x.State, Want: "held"}
		}
		if err := e.store.ReleaseTx(ctx, tx, id, by.String()); err != nil {
			return err
		}
		if err := e.auditExportTx(ctx, tx, by, store.ActionRelease, x); err != nil {
			return err
		}
		return e.insertTx(ctx, tx, publishExportArgs{ExportID: id, Generation: x.Generation}, "")
	})
}

// Reject ends a held export without publishing it. Errors are those of Release.
func (e *Engine) Reject(ctx context.Context, id int64, by store.Actor) error {
	return e.decide(ctx, id, func(tx pgx.Tx, x store.Export) error {
		if x.State != store.StateHeld {
			return &StateError{ID: id, Is: x.State, Want: "held"}
		}
		if err := e.auditExportTx(ctx, tx, by, store.ActionReject, x); err != nil {
			return err
		}
		return e.cancelTx(ctx, tx, x, "rejected by "+by.String())
	})
}

// Cancel ends an export that is not finished, here and at the payer. Loads that run on any instance end at their next
// checkpoint, which they can no longer commit. Errors are those of Release.
func (e *Engine) Cancel(ctx context.Context, id int64, by store.Actor) error {
	return e.decide(ctx, id, func(tx pgx.Tx, x store.Export) error {
		if !x.State.Active() {
			return &StateError{ID: id, Is: x.State, Want: "not finished"}
		}
		if err := e.auditExportTx(ctx, tx, by, store.ActionCancel, x); err != nil {
			return err
		}
		return e.cancelTx(ctx, tx, x, "canceled by "+by.String())
	})
}

// Retry asks again for what an export asked for that was not published, as a new export, and returns the new one's number. The errors
// are store.ErrNoExport, a *StateError, an *UnknownPayerError, a *SeriesChangedError, store.ErrExportRunning, or a failure of Postgres.
func (e *Engine) Retry(ctx context.Context, id int64, by store.Actor) (retried int64, err error) {
	err = e.decide(ctx, id, func(tx pgx.Tx, x store.Export) error {
		if x.State != store.StateFailed && x.State != store.StateCanceled {
			return &StateError{ID: id, Is: x.State, Want: "failed or canceled"}
		}
		p, ok := e.roster.payer(x.Payer)
		if !ok {
			return &UnknownPayerError{x.Payer}
		}
		if x.Series != series(p.Config) || !asksForNoMore(x.Types, sortedTypes(p.Config)) {
			return &SeriesChangedError{ID: id}
		}
		request := store.NewExport{
			Payer: x.Payer, Kind: x.Kind, Trigger: x.Trigger, Series: x.Series, Types: x.Types, Since: x.Since, Patients: x.Patients,
			RemovesGhosts: x.RemovesGhosts && p.Config.Load.RemoveGhosts, Settings: settingsOf(p.Config),
		}
		if x.Trigger == store.TriggerSchedule {
			request.Trigger = store.TriggerManual // what it asked for follows from nothing else; its tick has been
		}
		if retried, err = e.beginTx(ctx, tx, request); err != nil {
			return err
		}
		return e.store.AuditTx(ctx, tx, by, store.ActionRetry, store.ExportObject(id), map[string]any{
			"payer": x.Payer, "kind": x.Kind, "since": x.Since, "new_export": retried,
		})
	})
	return retried, err
}

// asksForNoMore reports whether an export of some types asks for none beyond those of the configuration, where none are all: the token covers
// the latter, and what it does not cover a payer leaves out without a word (protocol.md TOK-4).
func asksForNoMore(types, configured []string) bool {
	if len(configured) == 0 {
		return true
	}
	return len(types) > 0 && !slices.ContainsFunc(types, func(resourceType string) bool { return !slices.Contains(configured, resourceType) })
}

func (e *Engine) auditExportTx(ctx context.Context, tx pgx.Tx, by store.Actor, action string, x store.Export) error {
	return e.store.AuditTx(ctx, tx, by, action, store.ExportObject(x.ID), map[string]any{"payer": x.Payer, "kind": x.Kind, "was": x.State})
}

func (e *Engine) cancelTx(ctx context.Context, tx pgx.Tx, x store.Export, reason string) error {
	if err := e.store.CancelTx(ctx, tx, x.ID, reason); err != nil {
		return err
	}
	return e.insertTx(ctx, tx, cleanUpArgs{ExportID: x.ID}, "")
}

// decide changes an export that nobody else changes meanwhile.
func (e *Engine) decide(ctx context.Context, id int64, change func(tx pgx.Tx, x store.Export) error) error {
	return e.store.InTx(ctx, func(tx pgx.Tx) error {
		x, err := e.store.ExportForUpdateTx(ctx, tx, id)
		if err != nil {
			return err
		}
		return change(tx, x)
	})
}
