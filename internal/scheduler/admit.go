package scheduler

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// beginTx records an export, together with its kick-off: unless exports are bounded over the fleet. Then it waits until
// admit finds that it is its turn.
func (e *Engine) beginTx(ctx context.Context, tx pgx.Tx, n store.NewExport) (int64, error) {
	n.Waiting = e.tuning.Load().MaxExports > 0
	id, err := e.store.CreateExportTx(ctx, tx, n)
	if err != nil || n.Waiting {
		return id, err
	}
	return id, e.insertTx(ctx, tx, startExportArgs{ExportID: id}, n.Queue)
}

// admit kicks off the exports that wait, the one that was due first before all others, as far as there is room for them and
// their payers may be asked. It is called wherever an export may have come or gone; where an instance dies before that, the
// next look at the schedules makes it up.
func (e *Engine) admit(ctx context.Context) error {
	waiting, err := e.store.Waiting(ctx)
	if err != nil || !waiting {
		return err
	}
	return e.store.InTx(ctx, func(tx pgx.Tx) error {
		admitted, err := e.store.AdmitTx(ctx, tx, store.Admission{MaxExports: e.tuning.Load().MaxExports, Quiet: e.quiet()})
		if err != nil {
			return err
		}
		for _, x := range admitted {
			if err := e.insertTx(ctx, tx, startExportArgs{ExportID: x.ID, Generation: x.Generation}, x.Queue); err != nil {
				return err
			}
			e.logger.InfoContext(ctx, "export has its turn", "payer", x.Payer, "export_id", x.ID)
		}
		return nil
	})
}

// quiet lists the payers that are in their blackout.
func (e *Engine) quiet() []string {
	var names []string
	now := e.clock.Now()
	for name, p := range e.roster.all() {
		if !Blackout(p.Config, now).IsZero() {
			names = append(names, name)
		}
	}
	return names
}

// mustWait reports whether an export may not be kicked off now: its payer's blackout began since it was due, or while it was tried
// again. One that was started by hand may.
func (e *Engine) mustWait(x store.Export, p config.Payer) bool {
	return x.Trigger != store.TriggerManual && !Blackout(p, e.clock.Now()).IsZero()
}

// Blackout returns the end of the time in which a payer is asked for no export (not_between) and in which now lies; the zero
// time where it lies in none.
func Blackout(p config.Payer, now time.Time) time.Time {
	b, err := newBlackout(p)
	if err != nil {
		return time.Time{} // the configuration was checked
	}
	return b.until(now)
}
