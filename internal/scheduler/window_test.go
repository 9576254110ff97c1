package scheduler

import (
	"testing"
	"time"

	"ingestd/internal/config"
)

func TestBlackout_lasts_to_the_end_of_its_window_and_of_the_jitter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, window, zone, now, want string
		jitter                        time.Duration
	}{
		{"before it", "08:00-18:00", "America/New_York", "2026-05-04T07:59:59-04:00", "", 0},
		{"its first second", "08:00-18:00", "America/New_York", "2026-05-04T08:00:00-04:00", "2026-05-04T18:00:00-04:00", 0},
		{"its last second", "08:00-18:00", "America/New_York", "2026-05-04T17:59:59-04:00", "2026-05-04T18:00:00-04:00", 0},
		{"its end", "08:00-18:00", "America/New_York", "2026-05-04T18:00:00-04:00", "", 0},
		{"before midnight", "22:00-06:00", "Europe/Berlin", "2026-05-04T23:00:00+02:00", "2026-05-05T06:00:00+02:00", 0},
		{"after midnight", "22:00-06:00", "Europe/Berlin", "2026-05-05T01:00:00+02:00", "2026-05-05T06:00:00+02:00", 0},
		{"to midnight", "20:00-24:00", "Europe/Berlin", "2026-05-04T23:59:00+02:00", "2026-05-05T00:00:00+02:00", 0},
		{"the spring makes it shorter", "22:00-06:00", "Europe/Berlin", "2026-03-28T23:00:00+01:00", "2026-03-29T06:00:00+02:00", 0},
		{"the autumn makes it longer", "22:00-06:00", "Europe/Berlin", "2026-10-24T23:00:00+02:00", "2026-10-25T06:00:00+01:00", 0},
		{"it ends in the hour that the spring skips", "22:00-02:30", "Europe/Berlin", "2026-03-28T23:00:00+01:00", "2026-03-29T03:00:00+02:00", 0},
		{"a midnight that never comes", "20:00-00:00", "America/Santiago", "2026-09-05T23:00:00-04:00", "2026-09-06T01:00:00-03:00", 0},
		{"with jitter", "08:00-18:00", "UTC", "2026-05-04T12:00:00Z", "2026-05-04T18:07:00Z", 7 * time.Minute},
		{"within the jitter", "08:00-18:00", "UTC", "2026-05-04T18:06:59Z", "2026-05-04T18:07:00Z", 7 * time.Minute},
		{"behind the jitter", "08:00-18:00", "UTC", "2026-05-04T18:07:00Z", "", 7 * time.Minute},
	} {
		b, err := newBlackout(config.Payer{Name: "p", Timezone: test.zone, NotBetween: test.window})
		if err != nil {
			t.Fatal(err)
		}
		b.jitter = test.jitter
		var want time.Time
		if test.want != "" {
			want = at(t, test.want)
		}
		if got := b.until(at(t, test.now)); !got.Equal(want) {
			t.Errorf("%s: got %s, want %s", test.name, got, want)
		}
	}
}

func TestBlackout_does_not_count_as_lateness(t *testing.T) {
	t.Parallel()
	b, err := newBlackout(config.Payer{Name: "p", NotBetween: "08:00-18:00"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		from, to string
		want     time.Duration
	}{
		{"2026-05-04T07:00:00Z", "2026-05-04T07:30:00Z", 30 * time.Minute},
		{"2026-05-04T07:50:00Z", "2026-05-04T18:10:00Z", 20 * time.Minute},
		{"2026-05-04T09:00:00Z", "2026-05-04T17:00:00Z", 0},
		{"2026-05-04T09:00:00Z", "2026-05-05T09:00:00Z", 14 * time.Hour},
		{"2026-05-04T09:00:00Z", "2026-05-06T18:30:00Z", 28*time.Hour + 30*time.Minute},
	} {
		if got := b.open(at(t, test.from), at(t, test.to), 1000*time.Hour); got != test.want {
			t.Errorf("%s to %s: got %s, want %s", test.from, test.to, got, test.want)
		}
	}
}

func TestNextRun_of_a_tick_in_a_blackout_is_its_end(t *testing.T) {
	t.Parallel()
	p := config.Payer{Name: "p", Enabled: true, Schedule: "0 9 * * *", NotBetween: "08:00-18:00"}
	for _, test := range []struct{ now, want string }{
		{"2026-05-04T07:00:00Z", "2026-05-04T18:00:00Z"},
		{"2026-05-04T08:30:00Z", "2026-05-04T18:00:00Z"},
		{"2026-05-04T12:00:00Z", "2026-05-04T18:00:00Z"}, // what was due at nine waits
		{"2026-05-04T18:00:00Z", "2026-05-05T18:00:00Z"},
	} {
		if got := NextRun(p, at(t, test.now)); !got.Equal(at(t, test.want)) {
			t.Errorf("at %s: got %s, want %s", test.now, got, test.want)
		}
	}
	p.Schedule = "0 20 * * *"
	if got := NextRun(p, at(t, "2026-05-04T12:00:00Z")); !got.Equal(at(t, "2026-05-04T20:00:00Z")) {
		t.Errorf("a tick behind the blackout: got %s", got)
	}
}
