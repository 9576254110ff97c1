package scheduler

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/robfig/cron/v3"

	"ingestd/internal/config"
)

// schedule is a cron expression in a payer's timezone, put off by the payer's jitter.
type schedule struct {
	cron   cron.Schedule
	offset time.Duration
}

// parseSchedule reads a cron expression of five fields, a descriptor such as @daily, or @every DURATION.
func parseSchedule(p config.Payer, expression string) (*schedule, error) {
	location, err := time.LoadLocation(orDefault(p.Timezone, "UTC"))
	if err != nil {
		return nil, fmt.Errorf("payer %s: timezone %q is unknown", p.Name, p.Timezone)
	}
	parsed, err := cron.ParseStandard(expression)
	if err != nil {
		return nil, fmt.Errorf("payer %s: schedule %q: %w", p.Name, expression, err)
	}
	switch parsed := parsed.(type) {
	case *cron.SpecSchedule:
		return &schedule{cron: inLocation(parsed, location), offset: jitter(p)}, nil
	case cron.ConstantDelaySchedule:
		return &schedule{cron: every(parsed.Delay), offset: jitter(p)}, nil
	}
	return &schedule{cron: parsed, offset: jitter(p)}, nil
}

// jitter is a fixed share of the payer's bound, derived from its name: all instances agree on it, and payers with the same
// schedule do not start in the same second.
func jitter(p config.Payer) time.Duration {
	if p.Jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.Name)) // a hash never fails
	return time.Duration(h.Sum64() % uint64(p.Jitter)).Truncate(time.Second)
}

// every is an @every schedule that ticks at multiples of its interval, counted from the zero time in UTC. cron's own
// counts from whenever it is asked, so that instances would not agree, and a restart would put the next tick off.
type every time.Duration

// Next implements cron.Schedule.
func (e every) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(e)).Add(time.Duration(e))
}

// Next returns the first tick after t.
func (s *schedule) Next(t time.Time) time.Time {
	next := s.cron.Next(t.Add(-s.offset))
	if next.IsZero() {
		return next
	}
	return next.Add(s.offset)
}

// looksBack are how far back the latest tick is looked for, one after the other: a schedule that ticks often has one near
// the end, so that not each of those that were missed is counted.
var looksBack = []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 366 * 24 * time.Hour}

// latestDue returns the latest tick after last and not after now; the zero time where none is due. All ticks that were
// missed in between are made up by this one.
func (s *schedule) latestDue(last, now time.Time) time.Time {
	for _, back := range looksBack {
		if from := now.Add(-back); from.After(last) {
			if due := s.latestAfter(from, now); !due.IsZero() {
				return due
			}
		}
	}
	return s.latestAfter(last, now)
}

func (s *schedule) latestAfter(last, now time.Time) time.Time {
	var due time.Time
	for next := s.Next(last); !next.IsZero() && !next.After(now); next = s.Next(next) {
		due = next
	}
	return due
}
