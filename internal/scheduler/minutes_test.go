package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This is an independent calculation of when a schedule ticks: it reads a clock on the wall at each minute, and knows
// nothing of cron expressions but what it has made up itself.

// expression is a cron expression as sets of the values that its fields name; nil is *.
type expression struct {
	minutes, hours, days, months, weekdays []int
}

func randomExpression(r *rand.Rand) expression {
	some := func(n, low, high int) []int {
		values := make([]int, n)
		for i := range values {
			values[i] = low + r.IntN(high-low+1)
		}
		slices.Sort(values)
		return slices.Compact(values)
	}
	var x expression
	switch r.IntN(4) {
	case 0:
		x.minutes = []int{0}
	case 1:
		x.minutes = []int{0, 15, 30, 45}
	default:
		x.minutes = some(1+r.IntN(3), 0, 59)
	}
	switch r.IntN(6) {
	case 0: // every hour
	case 1:
		x.hours = some(6, 0, 23)
	case 2:
		x.hours = some(1, 22, 23)
	default:
		x.hours = some(1+r.IntN(2), 0, 4) // where the clocks change
	}
	if r.IntN(4) == 0 {
		x.days = some(1+r.IntN(10), 1, 28)
	}
	if r.IntN(8) == 0 {
		x.months = some(1+r.IntN(5), 1, 12)
	}
	if r.IntN(3) == 0 {
		x.weekdays = some(1+r.IntN(3), 0, 6)
	}
	return x
}

// String writes the expression as cron has it.
func (x expression) String() string {
	fields := make([]string, 0, 5)
	for _, values := range [][]int{x.minutes, x.hours, x.days, x.months, x.weekdays} {
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = strconv.Itoa(v)
		}
		fields = append(fields, strings.Join(texts, ","))
		if values == nil {
			fields[len(fields)-1] = "*"
		}
	}
	return strings.Join(fields, " ")
}

// matches reports whether what the wall shows is named. Where both days and weekdays are, one of them is enough.
func (x expression) matches(m shownMinute) bool {
	has := func(values []int, v uint8) bool { return slices.Contains(values, int(v)) }
	if !has(x.minutes, m.minute) || x.hours != nil && !has(x.hours, m.hour) || x.months != nil && !has(x.months, m.month) {
		return false
	}
	switch day, weekday := has(x.days, m.day), has(x.weekdays, m.weekday); {
	case x.days != nil && x.weekdays != nil:
		return day || weekday
	case x.days != nil:
		return day
	case x.weekdays != nil:
		return weekday
	}
	return true
}

// shownMinute is what the wall shows in one minute.
type shownMinute struct {
	minute, hour, day, month, weekday uint8
	// again says that it has shown that before.
	again bool
}

// wallWatch is a year of a clock on the wall.
type wallWatch struct {
	from    time.Time
	shown   []shownMinute         // by the minutes since from
	skipped map[int][]shownMinute // what a wall that had not jumped would show in a minute, where this one never does
}

func watch(t *testing.T, zone string, from, to time.Time) wallWatch {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	w := wallWatch{from: from, skipped: make(map[int][]shownMinute)}
	read := func(t time.Time) shownMinute {
		return shownMinute{
			minute: uint8(t.Minute()), hour: uint8(t.Hour()), day: uint8(t.Day()), month: uint8(t.Month()), weekday: uint8(t.Weekday()),
		}
	}
	_, before := from.In(location).Zone()
	furthest := before/60 - 1 // how far the wall has gone, in minutes
	for n, now := 0, from; now.Before(to); n, now = n+1, now.Add(time.Minute) {
		local := now.In(location)
		_, offset := local.Zone()
		m := read(local)
		m.again = n+offset/60 <= furthest
		furthest = max(furthest, n+offset/60)
		w.shown = append(w.shown, m)
		for k := range (offset - before) / 60 { // minutes that the wall has jumped over
			unmoved := now.Add(time.Duration(k) * time.Minute).In(time.FixedZone("", before))
			w.skipped[n+k] = append(w.skipped[n+k], read(unmoved))
		}
		before = offset
	}
	return w
}

// ticks are the minutes in which an expression ticks.
func (w wallWatch) ticks(x expression) []time.Time {
	var minutes []int
	for n, m := range w.shown {
		if x.matches(m) && (!m.again || x.hours == nil) {
			minutes = append(minutes, n)
		}
	}
	for n, skipped := range w.skipped {
		if slices.ContainsFunc(skipped, x.matches) {
			minutes = append(minutes, n)
		}
	}
	slices.Sort(minutes)
	minutes = slices.Compact(minutes)
	ticks := make([]time.Time, len(minutes))
	for i, n := range minutes {
		ticks[i] = w.from.Add(time.Duration(n) * time.Minute)
	}
	return ticks
}

func TestMinutes_know_the_days_on_which_clocks_change(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := watch(t, "Europe/Berlin", from, from.AddDate(1, 0, 0))
	nightly := expression{minutes: []int{30}, hours: []int{2}}
	if n := len(w.ticks(nightly)); n != 365 {
		t.Errorf("%s ticks %d times in a year", nightly, n)
	}
	again := 0
	for _, m := range w.shown {
		if m.again {
			again++
		}
	}
	if again != 60 || len(w.skipped) != 60 {
		t.Errorf("%d minutes come twice, %d never: want 60 and 60", again, len(w.skipped))
	}
	if got := fmt.Sprint(nightly); got != "30 2 * * *" {
		t.Errorf("got %s", got)
	}
}
