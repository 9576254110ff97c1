package chaos

import (
	"context"
	"fmt"
	"time"
)

const (
	// patience bounds each wait for something that must come about.
	patience = 5 * time.Minute
	// lookEvery is between two looks.
	lookEvery = 100 * time.Millisecond
)

// waitFor waits until a condition holds; what names it in the error of a wait that took too long.
func waitFor(ctx context.Context, what string, condition func() (bool, error)) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if ok, err := condition(); ok || err != nil {
			return err
		}
		if !pause(limited, lookEvery) {
			if ctx.Err() != nil {
				return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
			}
			return fmt.Errorf("waited %s for %s", patience, what)
		}
	}
}

// pause waits, and tells whether it waited to the end.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
