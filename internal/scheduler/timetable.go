package scheduler

import (
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// timetable says when one payer is to be exported: what its configuration says, read once, and of each of its schedules the
// last tick that is known. It decides, and acts on nothing.
type timetable struct {
	payer   string
	plans   []*plan // the full one first: where both are due, its export is the one that runs
	quiet   blackout
	catchUp time.Duration
}

// plan is one of a payer's schedules.
type plan struct {
	which store.Schedule
	*schedule
	last time.Time // the last tick that was seen to be acted on; zero where it has to be looked up
	next time.Time // the first after it; zero where none ever comes
}

// newTimetable reads the schedules of a payer; a payer that is not enabled has none.
func newTimetable(p config.Payer) (*timetable, error) {
	t := &timetable{payer: p.Name, catchUp: p.CatchUp}
	if !p.Enabled {
		return t, nil
	}
	for _, s := range []struct {
		which      store.Schedule
		expression string
	}{{store.ScheduleFull, p.Export.FullSchedule}, {store.ScheduleIncremental, p.Schedule}} {
		if s.expression == "" {
			continue
		}
		parsed, err := parseSchedule(p, s.expression)
		if err != nil {
			return nil, err
		}
		t.plans = append(t.plans, &plan{which: s.which, schedule: parsed})
	}
	var err error
	t.quiet, err = newBlackout(p)
	return t, err
}

// mayBeDue reports whether the database has to be asked about the payer, because one of its schedules is due as far as is known
// here.
func (t *timetable) mayBeDue(now time.Time) bool {
	for _, p := range t.plans {
		if p.last.IsZero() || !p.next.IsZero() && !p.next.After(now) {
			return true
		}
	}
	return false
}

// wake is when the payer has to be looked at again, after now; the zero time where no tick ever comes.
func (t *timetable) wake(now time.Time) time.Time {
	var wake time.Time
	for _, p := range t.plans {
		next := p.next
		if p.last.IsZero() || !next.IsZero() && !next.After(now) { // it is being acted on
			next = p.Next(now)
		}
		if !next.IsZero() && (wake.IsZero() || next.Before(wake)) {
			wake = next
		}
	}
	if end := t.quiet.until(now); !end.IsZero() && t.mayBeDue(now) && (wake.IsZero() || end.Before(wake)) {
		wake = end
	}
	return wake
}

// forget makes the timetable ask for the last ticks again.
func (t *timetable) forget() {
	for _, p := range t.plans {
		p.last = time.Time{}
	}
}

// decision is what is to become of a tick.
type decision struct {
	payer    string
	schedule store.Schedule
	due      time.Time
	outcome  store.TickOutcome
}

// decide says which ticks are to be acted on, given what the database knows of the payer:
//
//   - A schedule that is seen for the first time has missed nothing: its ticks count from now.
//   - Of several ticks that are due, the latest stands for all.
//   - While the payer is paused or in its blackout, they stay due.
//   - One that is later than the payer's catch_up is missed.
//   - While an export of the payer is unfinished, an incremental one is skipped, because the next one brings what it would
//     have brought. A full one comes seldom: it stays due, and has its turn.
func (t *timetable) decide(known store.TickState, now time.Time) []decision {
	if known.Paused {
		return nil
	}
	var all []decision
	quiet, active := !t.quiet.until(now).IsZero(), known.Active
	for _, p := range t.plans {
		p.see(known.Last[p.which])
		d := decision{payer: t.payer, schedule: p.which}
		if p.last.IsZero() {
			d.due, d.outcome = now.Truncate(time.Second), store.TickRegistered
			all = append(all, d)
			continue
		}
		if p.next.IsZero() || p.next.After(now) || quiet {
			continue
		}
		d.due = p.latestDue(p.last, now)
		full := p.which == store.ScheduleFull
		switch {
		case full && active:
			continue
		case t.late(d.due, known, full, now):
			d.outcome = store.TickMissed
		case active:
			d.outcome = store.TickSkipped
		default:
			d.outcome, active = store.TickStarted, true
		}
		all = append(all, d)
	}
	return all
}

// see takes over the last tick that the database knows.
func (p *plan) see(last time.Time) {
	if !p.last.Equal(last) {
		p.last, p.next = last, p.Next(last)
	}
}

// late reports whether a tick is too late to be made up. The time in which the payer may not be asked does not count, nor,
// for a full export, the time in which it waited for the one before it.
func (t *timetable) late(due time.Time, known store.TickState, full bool, now time.Time) bool {
	if t.catchUp <= 0 {
		return false
	}
	if full {
		due = later(due, known.FinishedAt)
	}
	return t.quiet.open(due, now, t.catchUp) > t.catchUp
}

// NextRun returns when a payer's next export is due after now, by either of its schedules; the zero time where none is.
func NextRun(p config.Payer, now time.Time) time.Time {
	var next time.Time
	t, err := newTimetable(p)
	if err != nil {
		return next // the configuration was checked; a payer without a next run is what status can say
	}
	for _, plan := range t.plans {
		due := plan.Next(now)
		if end := t.quiet.until(now); !end.IsZero() { // a tick of this blackout may wait for its end
			if earlier := plan.Next(t.quiet.began(now)); !earlier.IsZero() && earlier.Before(end) {
				due = end
			}
		} else if end := t.quiet.until(due); !due.IsZero() && !end.IsZero() {
			due = end
		}
		if next.IsZero() || !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	return next
}
