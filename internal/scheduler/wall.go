package scheduler

import (
	"time"

	"github.com/robfig/cron/v3"
)

// allHours is the hour field of a cron expression that names every hour.
const allHours = 1<<24 - 1

// wall is a cron schedule by the clock on the wall, of which daylight saving skips and doubles some time: one that the
// wall never shows runs once, when it would have come had the clock not jumped; one that it shows twice runs once, the
// first time, unless the schedule names every hour: such a one goes on through the change as if there were none. cron's own
// would leave out the former and double the latter, and not stand changes at midnight or of half an hour.
type wall struct {
	spec     *cron.SpecSchedule // evaluated in UTC, which has every time once
	location *time.Location
	hourly   bool
}

// inLocation returns the schedule by the wall's clock in a place.
func inLocation(spec *cron.SpecSchedule, location *time.Location) cron.Schedule {
	spec.Location = time.UTC
	return wall{spec: spec, location: location, hourly: spec.Hour&allHours == allHours}
}

// Next implements cron.Schedule. It goes from one change of the clock to the next: between two, the wall is a fixed time
// ahead of UTC.
func (w wall) Next(t time.Time) time.Time {
	for p := periodAt(t, w.location); ; p = p.following() {
		next, ever := w.within(p, t)
		if !next.IsZero() || !ever || p.end.IsZero() {
			return next
		}
	}
}

// within returns the first tick after t in a period, zero where there is none; ever is false where no later period has one
// either.
func (w wall) within(p period, t time.Time) (next time.Time, ever bool) {
	from := later(t.Add(p.offset), p.start.Add(p.offset-time.Second))
	if back := p.start.Add(p.before); !w.hourly && p.offset < p.before {
		from = later(from, back.Add(-time.Second)) // what lies before, the wall has shown already
	}
	shown := w.spec.Next(from)
	if !shown.IsZero() {
		ever = true
		next = p.inside(shown.Add(-p.offset))
	}
	if !t.Before(p.start.Add(p.offset - p.before)) {
		return next, ever
	}
	// The wall has jumped forward: what it skipped comes as on a wall that has not.
	skipped := w.spec.Next(later(t.Add(p.before), p.start.Add(p.before-time.Second)))
	if !skipped.IsZero() && skipped.Before(p.start.Add(p.offset)) {
		if at := p.inside(skipped.Add(-p.before)); next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next, ever
}

// period is the time between two changes of a place's clock.
type period struct {
	start, end     time.Time // the zero time where it has none
	offset, before time.Duration
	location       *time.Location
}

// following is the period behind one that has an end. Beyond the changes that are listed of a place, Go ends a period with the year, too,
// and may find the old one again at its very end: a day later, it does not.
func (p period) following() period {
	next := periodAt(p.end, p.location)
	if !next.end.IsZero() && !next.end.After(p.end) {
		next = periodAt(p.end.Add(24*time.Hour), p.location)
	}
	return next
}

func periodAt(t time.Time, location *time.Location) period {
	t = t.In(location)
	p := period{location: location, offset: offsetAt(t)}
	p.before = p.offset
	if p.start, p.end = t.ZoneBounds(); !p.start.IsZero() {
		p.before = offsetAt(p.start.Add(-time.Second))
	}
	p.start, p.end = p.start.UTC(), p.end.UTC()
	return p
}

// inside is the instant, in the place, or the zero time where it lies behind the period.
func (p period) inside(at time.Time) time.Time {
	if !p.end.IsZero() && !at.Before(p.end) {
		return time.Time{}
	}
	return at.In(p.location)
}

// offsetAt is how far the clock at a time's place is ahead of UTC.
func offsetAt(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}
