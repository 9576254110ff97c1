package scheduler

import (
	"context"
	"sync/atomic"
	"time"
)

// reindexing is when the job engine builds the indexes of its tables anew, which only their owner may: at midnight, and never where
// the tables are another role's.
type reindexing struct{ foreign atomic.Bool }

// look finds out whose the tables are; while nobody says, they count as another's.
func (r *reindexing) look(ctx context.Context, owns func(context.Context) (bool, error)) error {
	own, err := owns(ctx)
	r.foreign.Store(err != nil || !own)
	return err
}

// never is later than any process lives.
const never = 100 * 365 * 24 * time.Hour

// Next implements river.PeriodicSchedule.
func (r *reindexing) Next(now time.Time) time.Time {
	if r.foreign.Load() {
		return now.Add(never)
	}
	return now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
}
