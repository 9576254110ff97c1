package scheduler

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Pause lets the schedules of payers rest, on all instances. What runs goes on, and exports can be started by hand.
func (e *Engine) Pause(ctx context.Context, payers []string, by string) error {
	return e.store.PausePayers(ctx, payers, by)
}

// Resume ends the rest of payers and returns those that were resting. Of the ticks that passed meanwhile one is made up for each
// schedule, as after an outage, when an instance next looks what is due.
func (e *Engine) Resume(ctx context.Context, payers []string) (resumed []string, err error) {
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		resumed, err = e.store.ResumePayersTx(ctx, tx, payers)
		return err
	})
	return resumed, err
}
