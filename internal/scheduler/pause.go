package scheduler

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

// Pause lets the schedules of payers rest, on all instances, and returns those that were not resting yet. What runs goes on, and exports
// can be started by hand.
func (e *Engine) Pause(ctx context.Context, payers []string, by store.Actor) (paused []string, err error) {
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		if paused, err = e.store.PausePayersTx(ctx, tx, payers, by.String()); err != nil {
			return err
		}
		return e.auditPayersTx(ctx, tx, by, store.ActionPause, paused)
	})
	return paused, err
}

// Resume ends the rest of payers and returns those that were resting. Of the ticks that passed meanwhile one is made up for each
// schedule, as after an outage, when an instance next looks what is due.
func (e *Engine) Resume(ctx context.Context, payers []string, by store.Actor) (resumed []string, err error) {
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		if resumed, err = e.store.ResumePayersTx(ctx, tx, payers); err != nil {
			return err
		}
		return e.auditPayersTx(ctx, tx, by, store.ActionResume, resumed)
	})
	return resumed, err
}

func (e *Engine) auditPayersTx(ctx context.Context, tx pgx.Tx, by store.Actor, action string, payers []string) error {
	slices.Sort(payers)
	for _, payer := range payers {
		if err := e.store.AuditTx(ctx, tx, by, action, store.PayerObject(payer), nil); err != nil {
			return err
		}
	}
	return nil
}
