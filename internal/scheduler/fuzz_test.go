package scheduler

import (
	"testing"
	"time"

	"ingestd/internal/config"
)

// FuzzSchedule proves that a cron expression is refused, or gives ticks that go forward, in every zone, without a search that
// does not end.
func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"0 2 * * *", "*/5 * * * *", "@daily", "@every 1ns", "0 0 30 2 *", "0 0 29 2 *", "CRON_TZ=Asia/Tokyo 0 0 * * *", "60 * * * *", ""} {
		f.Add(seed, "Europe/Berlin")
		f.Add(seed, "America/St_Johns")
	}
	f.Fuzz(func(t *testing.T, expression, zone string) {
		s, err := parseSchedule(config.Payer{Name: "p", Timezone: zone}, expression)
		if err != nil {
			return
		}
		at := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
		for range 10 {
			next := s.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) {
				t.Fatalf("%q in %q: %s is followed by %s", expression, zone, at, next)
			}
			at = next
		}
	})
}
