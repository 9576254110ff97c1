package scheduler

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/robfig/cron/v3"

	"ingestd/internal/config"
)

// schedule is a cron expression in a payer's timezone, put off by the payer's jitter. It implements River's
// PeriodicSchedule.
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

// maxMissed bounds how many missed ticks are counted one by one: of a schedule that ticks more often, the latest tick is
// found near the end.
const maxMissed = 100_000

// latestDue returns the latest tick after last and not after now; the zero time where none is due. All ticks that were
// missed in between are made up by this one.
func (s *schedule) latestDue(last, now time.Time) time.Time {
	var due time.Time
	next := s.Next(last)
	for n := 0; !next.IsZero() && !next.After(now); n++ {
		if n == maxMissed {
			next = s.Next(now.Add(-time.Hour))
			if next.IsZero() || next.After(now) {
				return due
			}
		}
		due = next
		next = s.Next(next)
	}
	return due
}

// NextRun returns when a payer's next export is due after now, by either of its schedules; the zero time where none is.
func NextRun(p config.Payer, now time.Time) time.Time {
	var next time.Time
	if !p.Enabled {
		return next
	}
	for _, expression := range []string{p.Schedule, p.Export.FullSchedule} {
		if expression == "" {
			continue
		}
		s, err := parseSchedule(p, expression)
		if err != nil {
			continue // the configuration was checked; a payer without a next run is what status can say
		}
		if t := s.Next(now); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next
}
