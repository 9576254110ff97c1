package ops

import (
	"context"
	"fmt"
	"time"
)

const (
	// readyTimeout bounds a look whether this instance can work.
	readyTimeout = 2 * time.Second
	// readyLife is how long what was seen is told to others who ask.
	readyLife = 200 * time.Millisecond
)

// readiness tells whether this instance can work. Anybody may ask, as often as they like: one look at a time is taken, and told to all,
// so that they take no connection from those who load and publish.
type readiness struct {
	turn chan struct{}
	at   time.Time
	err  error
}

func newReadiness() *readiness { return &readiness{turn: make(chan struct{}, 1)} }

// ask returns what check says, or said a moment ago; fresh tells which.
func (r *readiness) ask(ctx context.Context, check func(ctx context.Context) error) (fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return false, fmt.Errorf("wait for another look: %w", ctx.Err())
	}
	if !r.at.IsZero() && time.Since(r.at) < readyLife {
		return false, r.err
	}
	// Whoever asked may go: what is seen is for others, too.
	bounded, cancelLook := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancelLook()
	r.err = check(bounded)
	r.at = time.Now()
	return true, r.err
}
