package scheduler

import (
	"fmt"
	"time"

	"ingestd/internal/config"
)

// blackout is the time of day in which a payer is asked for no export (not_between). It lasts as much longer as the
// payer's jitter is, so that payers that were all put off do not start in the same second. The zero blackout is none.
type blackout struct {
	window   config.Window
	location *time.Location
	jitter   time.Duration
}

// newBlackout reads a payer's not_between.
func newBlackout(p config.Payer) (blackout, error) {
	if p.NotBetween == "" {
		return blackout{}, nil
	}
	location, err := time.LoadLocation(orDefault(p.Timezone, "UTC"))
	if err != nil {
		return blackout{}, fmt.Errorf("payer %s: timezone %q is unknown", p.Name, p.Timezone)
	}
	window, err := config.ParseWindow(p.NotBetween)
	if err != nil {
		return blackout{}, fmt.Errorf("payer %s: not_between %q: %w", p.Name, p.NotBetween, err)
	}
	return blackout{window: window, location: location, jitter: jitter(p)}, nil
}

// until returns the end of the blackout that holds at t; the zero time where none does.
func (b blackout) until(t time.Time) time.Time {
	var end time.Time
	if b.window == (config.Window{}) {
		return end
	}
	for _, at := range []time.Time{t, t.Add(-b.jitter)} {
		if b.holds(at) {
			end = later(end, b.endAfter(at).Add(b.jitter))
		}
	}
	return end
}

func (b blackout) holds(t time.Time) bool { return b.window.Holds(sinceMidnight(t.In(b.location))) }

// began is just before the blackout that holds at t began, by a clock that did not change since.
func (b blackout) began(t time.Time) time.Time {
	if !b.holds(t) {
		t = t.Add(-b.jitter)
	}
	return t.Add(-(sinceMidnight(t.In(b.location)) - b.window.From + 24*time.Hour) % (24 * time.Hour)).Add(-time.Nanosecond)
}

// endAfter is the first instant after t that the window does not hold.
func (b blackout) endAfter(t time.Time) time.Time {
	t = t.In(b.location)
	left := (b.window.To - sinceMidnight(t) + 24*time.Hour) % (24 * time.Hour)
	end := t.Add(left)
	if offsetAt(end) == offsetAt(t) {
		return end
	}
	// The clock changes meanwhile: look at each minute of the wall.
	for end = t.Truncate(time.Minute); b.holds(end); {
		end = end.Add(time.Minute)
	}
	return end
}

// open returns how much time between two instants lies outside of the blackouts, up to a bound.
func (b blackout) open(from, to time.Time, atMost time.Duration) time.Duration {
	if b.window == (config.Window{}) {
		return to.Sub(from)
	}
	var open time.Duration
	for from.Before(to) && open <= atMost {
		if end := b.until(from); !end.IsZero() {
			from = end
			continue
		}
		next := earlier(b.nextStart(from), to)
		open += next.Sub(from)
		from = next
	}
	return open
}

// nextStart is when the window begins next after an instant that it does not hold, by a clock that does not change: it is
// for a measure of lateness, which an hour does not spoil.
func (b blackout) nextStart(t time.Time) time.Time {
	left := (b.window.From - sinceMidnight(t.In(b.location)) + 24*time.Hour) % (24 * time.Hour)
	return t.Add(max(left, time.Minute))
}

// sinceMidnight is the time that the clock on the wall shows.
func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second +
		time.Duration(t.Nanosecond())
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
