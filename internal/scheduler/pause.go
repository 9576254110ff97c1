package scheduler

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

// Pause lets the schedules of payers rest, on all instances. What runs goes on, and exports can be started by hand.
func (e *Engine) Pause(ctx context.Context, payers []string, by string) error {
	return e.store.PausePayers(ctx, payers, by)
}

// Resume ends the rest of payers and returns those that were resting. Of the ticks that passed meanwhile one is made up for each
// schedule, as after an outage.
func (e *Engine) Resume(ctx context.Context, payers []string) (resumed []string, err error) {
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		if resumed, err = e.store.ResumePayersTx(ctx, tx, payers); err != nil {
			return err
		}
		for _, payer := range resumed {
			for _, which := range []store.Schedule{store.ScheduleIncremental, store.ScheduleFull} {
				if err := e.insertTx(ctx, tx, tickArgs{Payer: payer, Schedule: which, At: time.Now()}, ""); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return resumed, err
}
