package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ingestd/internal/store"
)

// watchInterval is how often Watch looks at the database.
const watchInterval = 250 * time.Millisecond

// Running returns the payer's export that is not finished, and whether there is one.
func (e *Engine) Running(ctx context.Context, payer string) (store.Export, bool, error) {
	exports, err := e.store.Exports(ctx, payer, 1)
	if err != nil || len(exports) == 0 {
		return store.Export{}, false, err
	}
	return exports[0], exports[0].State.Active(), nil
}

// Watch follows an export, wherever it runs, until it is published, failed, canceled or held, and returns it as it stands
// then. Where the process that worked on it is gone, this engine takes it over. report is called with each look.
func (e *Engine) Watch(ctx context.Context, id int64, report func(store.Progress)) (store.Export, error) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	nextReap := time.Now()
	for {
		progress, err := e.store.Progress(ctx, id)
		if err != nil {
			return store.Export{}, err
		}
		report(progress)
		if !progress.State.Active() || progress.State == store.StateHeld {
			return e.store.Export(ctx, id)
		}
		if now := time.Now(); now.After(nextReap) {
			if err := e.reap(ctx, id); err != nil {
				return store.Export{}, fmt.Errorf("take export %d over: %w", id, err)
			}
			if err := e.admit(ctx); err != nil {
				return store.Export{}, err
			}
			nextReap = now.Add(e.options.ReapInterval)
		}
		select {
		case <-ctx.Done():
			return store.Export{}, ctx.Err()
		case <-e.stopped:
			return store.Export{}, errors.New("the job engine stopped")
		case <-ticker.C:
		}
	}
}

// WaitCleanedUp waits until an export that is over has been cleaned up, at most for the given time; it reports whether it
// has been.
func (e *Engine) WaitCleanedUp(ctx context.Context, id int64, atMost time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		if x, err := e.store.Export(ctx, id); err == nil && !x.CleanedUpAt.IsZero() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}
