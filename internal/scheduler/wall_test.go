package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ingestd/internal/config"
)

func TestSchedule_runs_a_skipped_time_once_and_a_doubled_one_once(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, zone, expression, from string
		want                         []string
	}{
		{
			"two times of the hour that the spring skips", "America/New_York", "0,30 2 * * *", "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00", "2026-03-09T02:00:00-04:00"},
		},
		{
			"a skipped time, asked for after the jump", "America/New_York", "30 2 * * *", "2026-03-08T03:10:00-04:00",
			[]string{"2026-03-08T03:30:00-04:00", "2026-03-09T02:30:00-04:00"},
		},
		{
			"skipped times and those of the next hour", "Europe/Berlin", "0,30 2-3 * * *", "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:00:00+02:00"},
		},
		{
			"every quarter goes on through the spring", "Europe/Berlin", "*/15 * * * *", "2026-03-29T01:40:00+01:00",
			[]string{"2026-03-29T01:45:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00"},
		},
		{
			"every quarter goes on through the autumn", "Europe/Berlin", "*/15 * * * *", "2026-10-25T02:40:00+02:00",
			[]string{"2026-10-25T02:45:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:15:00+01:00"},
		},
		{
			"quarters of named hours come once in the autumn", "Europe/Berlin", "*/30 2-3 * * *", "2026-10-25T01:00:00+02:00",
			[]string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:00:00+01:00"},
		},
		{
			"midnight, where the spring skips it: Chile", "America/Santiago", "0 0 * * *", "2026-09-05T12:00:00-04:00",
			[]string{"2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"},
		},
		{
			"before midnight, where the autumn doubles it: Chile", "America/Santiago", "30 23 * * *", "2026-04-04T12:00:00-03:00",
			[]string{"2026-04-04T23:30:00-03:00", "2026-04-05T23:30:00-04:00"},
		},
		{
			"midnight, where the autumn comes to it: Chile", "America/Santiago", "0 0 * * *", "2026-04-04T12:00:00-03:00",
			[]string{"2026-04-05T00:00:00-04:00", "2026-04-06T00:00:00-04:00"},
		},
		{
			"midnight, where the spring skips it: Egypt", "Africa/Cairo", "15 0 * * *", "2026-04-23T12:00:00+02:00",
			[]string{"2026-04-24T01:15:00+03:00", "2026-04-25T00:15:00+03:00"},
		},
		{
			"every hour, where the clock jumps half of one", "Australia/Lord_Howe", "0 * * * *", "2026-10-04T01:30:00+10:30",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00", "2026-10-04T04:00:00+11:00"},
		},
		{
			"half an hour that comes twice", "Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00+11:00",
			[]string{"2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"},
		},
		{
			"a day of the month that begins with the jump", "America/Santiago", "0 0 6 9 *", "2026-08-01T00:00:00-04:00",
			[]string{"2026-09-06T01:00:00-03:00", "2027-09-06T00:00:00-03:00"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := mustSchedule(t, config.Payer{Name: "p", Timezone: test.zone}, test.expression)
			now := at(t, test.from)
			for _, want := range test.want {
				now = s.Next(now)
				if !now.Equal(at(t, want)) {
					t.Fatalf("got %s, want %s", now.Format(time.RFC3339), want)
				}
			}
		})
	}
}

// zones are places whose clocks change in the spring and the autumn, at midnight, by half an hour, for a month, or not at all.
var zones = []string{
	"America/New_York", "Europe/Berlin", "Australia/Sydney", "America/Santiago", "Africa/Cairo", "Australia/Lord_Howe",
	"America/St_Johns", "Africa/Casablanca", "Asia/Kolkata", "Pacific/Chatham", "Asia/Beirut", "UTC",
}

func TestSchedule_is_that_of_a_clock_on_the_wall_that_is_read_each_minute(t *testing.T) {
	t.Parallel()
	const seed = 11
	random := rand.New(rand.NewPCG(seed, 0))
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, zone := range zones {
		w := watch(t, zone, from, from.AddDate(1, 0, 0))
		for range 15 {
			x := randomExpression(random)
			want := w.ticks(x)
			s := mustSchedule(t, config.Payer{Name: "p", Timezone: zone}, x.String())
			var got []time.Time
			for next := s.Next(from.Add(-time.Second)); next.Before(from.AddDate(1, 0, 0)) && !next.IsZero(); next = s.Next(next) {
				got = append(got, next.UTC())
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, %s in %s: %d ticks, want %d; the first that differ: %s", seed, x, zone, len(got), len(want), difference(got, want))
			}
			// What comes next does not depend on where one asks from.
			for range 50 {
				ask := from.Add(time.Duration(random.Int64N(int64(360 * 24 * time.Hour))))
				i, _ := slices.BinarySearchFunc(want, ask.Add(1), time.Time.Compare)
				if i < len(want) && !s.Next(ask).Equal(want[i]) {
					t.Fatalf("seed %d, %s in %s: after %s comes %s, want %s", seed, x, zone, ask, s.Next(ask), want[i])
				}
			}
		}
	}
}

func difference(got, want []time.Time) string {
	for i := range min(len(got), len(want)) {
		if !got[i].Equal(want[i]) {
			return fmt.Sprintf("%s, want %s", got[i], want[i])
		}
	}
	return "one has more"
}
