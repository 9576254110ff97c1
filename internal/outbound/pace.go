package outbound

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pace spreads requests evenly: at most so many a second, over all requests of one payer in this process.
type pace struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time // when the next request may go out
}

// newPace returns nil, which never waits, for a rate of 0 or less.
func newPace(perSecond float64) *pace {
	if perSecond <= 0 {
		return nil
	}
	return &pace{every: time.Duration(float64(time.Second) / perSecond)}
}

// wait returns when it is the caller's turn. The error is the context's.
func (p *pace) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	turn := p.next
	if turn.Before(now) {
		turn = now
	}
	p.next = turn.Add(p.every)
	p.mu.Unlock()
	delay := turn.Sub(now)
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for limits.requests_per_second: %w", ctx.Err())
	}
}
