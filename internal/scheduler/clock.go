package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ingestd/internal/store"
)

const (
	// maxSkew is how far the host's clock may be from the database's before that is worth a warning: assertions live for five
	// minutes, and payers allow for less.
	maxSkew = 30 * time.Second
	// clockJump is how far back the database's clock has to go before ticks are looked up anew.
	clockJump = time.Minute
)

// clock is the database's clock, which all instances share, carried on by the monotonic clock of this host between two
// looks. What the host shows does not matter, nor do its jumps. It implements rivertype.TimeGenerator.
type clock struct {
	store  *store.Store
	logger *slog.Logger

	mu     sync.Mutex
	read   time.Time // what the database's clock showed
	at     time.Time // when that was, by the monotonic clock
	skewed bool      // a warning was given
}

// Now is the time by the database's clock; before it was first read, by the host's.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read.IsZero() {
		return time.Now()
	}
	return c.read.Add(time.Since(c.at))
}

// NowOrNil leaves the time to the database where a statement of the job engine takes one.
func (c *clock) NowOrNil() *time.Time { return nil }

// look reads the database's clock. back reports that it has been set back.
func (c *clock) look(ctx context.Context) (now time.Time, back bool, err error) {
	asked := time.Now()
	now, err = c.store.Clock(ctx)
	if err != nil {
		return now, false, err
	}
	answered := time.Now()
	skew := asked.Add(answered.Sub(asked) / 2).Round(0).Sub(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	back = !c.read.IsZero() && now.Before(c.read.Add(answered.Sub(c.at)-clockJump))
	c.read, c.at = now, answered
	if skewed := skew.Abs() > maxSkew; skewed != c.skewed {
		c.skewed = skewed
		if skewed {
			c.logger.WarnContext(ctx, "the clock of this host is not that of the database: schedules go by the latter, but payers may refuse "+
				"the assertions that this host signs", "ahead_by", skew.Round(time.Second))
		}
	}
	return now, back, nil
}
