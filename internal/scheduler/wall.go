package scheduler

import (
	"time"

	"github.com/robfig/cron/v3"
)

// allHours is the hour field of a cron expression that names every hour.
const allHours = 1<<24 - 1

// wall is a cron schedule by the clock on the wall, of which daylight saving skips and doubles an hour: a time that the
// wall never shows runs once, when the clock has jumped over it; one that it shows twice runs once, the first time. cron's
// own would leave out the former and double the latter.
type wall struct {
	spec     *cron.SpecSchedule // evaluated in UTC, which has every hour once
	location *time.Location
}

// inLocation returns the schedule by the wall's clock in a place. One that ticks in every hour goes on through the change
// as if there were none, which is what cron's own does.
func inLocation(spec *cron.SpecSchedule, location *time.Location) cron.Schedule {
	if spec.Hour&allHours == allHours {
		spec.Location = location
		return spec
	}
	spec.Location = time.UTC
	return wall{spec, location}
}

// Next implements cron.Schedule.
func (w wall) Next(t time.Time) time.Time {
	shown := w.shown(t)
	for {
		shown = w.spec.Next(shown)
		if shown.IsZero() {
			return shown
		}
		// In the doubled hour the wall shows times whose tick has been.
		if at := w.instant(shown); at.After(t) {
			return at
		}
	}
}

// shown is what the wall shows at an instant, written as if it were UTC.
func (w wall) shown(t time.Time) time.Time {
	t = t.In(w.location)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant is the first at which the wall shows a time, or, where it never does, the one at which it would without the jump.
func (w wall) instant(shown time.Time) time.Time {
	// The offset before a change of clocks decides both: of a doubled time it is that of the first showing, of a skipped
	// one that of a clock that did not jump.
	_, before := shown.Add(-14 * time.Hour).In(w.location).Zone()
	at := shown.Add(-time.Duration(before) * time.Second)
	if w.shown(at).Equal(shown) {
		return at.In(w.location)
	}
	_, after := shown.Add(14 * time.Hour).In(w.location).Zone()
	if later := shown.Add(-time.Duration(after) * time.Second); w.shown(later).Equal(shown) {
		return later.In(w.location)
	}
	return at.In(w.location)
}
