package scheduler

import (
	"context"
	"fmt"

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

// Release lets a held export be published as it is, by an operator's decision. The error is store.ErrNoExport, a
// *StateError, or a failure of Postgres.
func (e *Engine) Release(ctx context.Context, id int64, by string) error {
	return e.decide(ctx, id, "held", func(tx pgx.Tx, x store.Export) error {
		if err := e.store.ReleaseTx(ctx, tx, id, by); err != nil {
			return err
		}
		return e.insertTx(ctx, tx, publishExportArgs{ExportID: id, Generation: x.Generation}, "")
	})
}

// Reject ends a held export without publishing it.
func (e *Engine) Reject(ctx context.Context, id int64, by string) error {
	return e.decide(ctx, id, "held", func(tx pgx.Tx, x store.Export) error {
		if x.State != store.StateHeld {
			return &StateError{ID: id, Is: x.State, Want: "held"}
		}
		return e.cancelTx(ctx, tx, x, "rejected by "+by)
	})
}

// Cancel ends an export that is not finished, here and at the payer. Loads that run on any instance end at their next
// checkpoint, which they can no longer commit.
func (e *Engine) Cancel(ctx context.Context, id int64, by string) error {
	return e.decide(ctx, id, "not finished", func(tx pgx.Tx, x store.Export) error {
		return e.cancelTx(ctx, tx, x, "canceled by "+by)
	})
}

func (e *Engine) cancelTx(ctx context.Context, tx pgx.Tx, x store.Export, reason string) error {
	if err := e.store.CancelTx(ctx, tx, x.ID, reason); err != nil {
		return err
	}
	return e.insertTx(ctx, tx, cleanUpArgs{ExportID: x.ID}, "")
}

func (e *Engine) decide(ctx context.Context, id int64, want string, change func(tx pgx.Tx, x store.Export) error) error {
	x, err := e.store.Export(ctx, id)
	if err != nil {
		return err
	}
	err = e.store.InTx(ctx, func(tx pgx.Tx) error { return change(tx, x) })
	if store.IsStale(err) {
		return &StateError{ID: id, Is: x.State, Want: want}
	}
	return err
}
