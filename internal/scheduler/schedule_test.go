package scheduler

import (
	"testing"
	"time"
	_ "time/tzdata"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func mustSchedule(t *testing.T, p config.Payer, expression string) *schedule {
	t.Helper()
	s, err := parseSchedule(p, expression)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestSchedule_neither_skips_nor_doubles_a_run_when_the_clocks_change(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, zone, expression, from string
		want                         []string
	}{
		{
			"a time that the spring skips runs once, after the jump", "America/New_York", "30 2 * * *", "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:30:00-04:00", "2026-03-09T02:30:00-04:00"},
		},
		{
			"the hour of the jump itself", "America/New_York", "0 2 * * *", "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"},
		},
		{
			"a time that the autumn doubles runs once", "America/New_York", "30 1 * * *", "2026-10-31T12:00:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"},
		},
		{
			"times around the doubled hour", "America/New_York", "0 0-3 * * *", "2026-10-31T23:30:00-04:00",
			[]string{
				"2026-11-01T00:00:00-04:00", "2026-11-01T01:00:00-04:00", "2026-11-01T02:00:00-05:00", "2026-11-01T03:00:00-05:00",
			},
		},
		{
			"a schedule of every hour goes on through the autumn", "Europe/Berlin", "0 * * * *", "2026-10-25T01:30:00+02:00",
			[]string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"},
		},
		{
			"half an hour of difference", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00+10:30",
			[]string{"2026-10-04T02:45:00+11:00", "2026-10-05T02:15:00+11:00"},
		},
		{"a place without changes", "Asia/Kolkata", "0 2 1 * *", "2026-01-15T00:00:00Z", []string{"2026-02-01T02:00:00+05:30"}},
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

func TestSchedule_by_the_wall_ticks_once_for_each_day_of_a_year(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"America/New_York", "Europe/Berlin", "Australia/Sydney", "UTC", "America/St_Johns"} {
		for _, expression := range []string{"0 2 * * *", "30 1 * * *", "15 3 * * *", "59 23 * * *", "0 0 * * *"} {
			s := mustSchedule(t, config.Payer{Name: "p", Timezone: zone}, expression)
			location, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, location).Add(-time.Second)
			days := make(map[string]int)
			for {
				now = s.Next(now)
				if now.In(location).Year() > 2026 {
					break
				}
				days[now.In(location).Format(time.DateOnly)]++
			}
			if len(days) != 365 {
				t.Errorf("%s in %s: ticked on %d days", expression, zone, len(days))
			}
			for day, n := range days {
				if n != 1 {
					t.Errorf("%s in %s: ticked %d times on %s", expression, zone, n, day)
				}
			}
		}
	}
}

func TestSchedule_every_agrees_between_instances(t *testing.T) {
	t.Parallel()
	s := mustSchedule(t, config.Payer{Name: "p"}, "@every 6h")
	want := at(t, "2026-05-01T12:00:00Z")
	for _, now := range []string{"2026-05-01T06:00:00Z", "2026-05-01T09:59:59Z", "2026-05-01T11:59:59Z"} {
		if got := s.Next(at(t, now)); !got.Equal(want) {
			t.Errorf("after %s: got %s, want %s", now, got, want)
		}
	}
}

func TestSchedule_jitter_is_fixed_by_the_payers_name(t *testing.T) {
	t.Parallel()
	const bound = 10 * time.Minute
	now := at(t, "2026-05-01T00:30:00Z")
	plain := mustSchedule(t, config.Payer{Name: "p"}, "0 2 * * *").Next(now)
	offsets := make(map[time.Duration]bool)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		p := config.Payer{Name: name, Jitter: bound}
		got := mustSchedule(t, p, "0 2 * * *").Next(now)
		if again := mustSchedule(t, p, "0 2 * * *").Next(now); !again.Equal(got) {
			t.Errorf("%s: %s and %s", name, got, again)
		}
		offset := got.Sub(plain)
		if offset < 0 || offset >= bound {
			t.Errorf("%s: put off by %s, want less than %s", name, offset, bound)
		}
		offsets[offset] = true
		// Within the offset behind the tick of the schedule, today's tick is still to come.
		if inside := mustSchedule(t, p, "0 2 * * *").Next(plain.Add(offset - time.Second)); offset > 0 && !inside.Equal(got) {
			t.Errorf("%s: just before its tick the next is %s, want %s", name, inside, got)
		}
	}
	if len(offsets) < 3 {
		t.Errorf("the payers start together: %v", offsets)
	}
}

func TestLatestDue_makes_missed_ticks_up_once(t *testing.T) {
	t.Parallel()
	tests := []struct{ expression, last, now, want string }{
		{"0 2 * * *", "2026-05-01T02:00:00Z", "2026-05-01T23:00:00Z", ""},
		{"0 2 * * *", "2026-05-01T02:00:00Z", "2026-05-02T02:00:00Z", "2026-05-02T02:00:00Z"},
		{"0 2 * * *", "2026-05-01T02:00:00Z", "2026-05-09T01:00:00Z", "2026-05-08T02:00:00Z"},
		{"@every 10m", "2026-05-01T02:00:00Z", "2026-05-01T02:09:59Z", ""},
		{"@every 10m", "2026-05-01T02:03:00Z", "2026-05-01T02:10:00Z", "2026-05-01T02:10:00Z"},
		{"@every 10m", "2026-05-01T02:00:00Z", "2026-05-01T05:55:00Z", "2026-05-01T05:50:00Z"},
		{"@every 1s", "2020-01-01T00:00:00Z", "2026-05-01T05:55:00Z", "2026-05-01T05:55:00Z"},
		{"0 0 1 1 *", "2020-01-01T00:00:00Z", "2026-05-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		{"0 0 30 2 *", "2020-01-01T00:00:00Z", "2026-05-01T00:00:00Z", ""}, // never
	}
	for _, test := range tests {
		var want time.Time
		if test.want != "" {
			want = at(t, test.want)
		}
		got := mustSchedule(t, config.Payer{Name: "p"}, test.expression).latestDue(at(t, test.last), at(t, test.now))
		if !got.Equal(want) {
			t.Errorf("%s, last %s, now %s: got %s, want %s", test.expression, test.last, test.now, got, want)
		}
	}
}

func TestMAN2_the_watermark_is_never_later_than_what_the_payer_can_have_seen(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-05-01T12:00:00Z")
	tests := []struct{ name, transaction, kickOff, want string }{
		{"as the payer says", "2026-05-01T11:00:00Z", "2026-05-01T11:00:05Z", "2026-05-01T11:00:00Z"},
		{"the job's end", "2026-05-01T11:30:00Z", "2026-05-01T11:00:05Z", "2026-05-01T11:00:05Z"},
		{"in the future, no Date", "2026-05-02T00:00:00Z", "", "2026-05-01T12:00:00Z"},
		{"missing", "", "2026-05-01T11:00:05Z", ""},
	}
	for _, test := range tests {
		var x store.Export
		var want time.Time
		for _, field := range []struct {
			to   *time.Time
			text string
		}{{&x.TransactionAt, test.transaction}, {&x.KickOffDate, test.kickOff}, {&want, test.want}} {
			if field.text != "" {
				*field.to = at(t, field.text)
			}
		}
		if got := watermark(x, now); !got.Equal(want) {
			t.Errorf("%s: got %s, want %s", test.name, got, want)
		}
	}
}
