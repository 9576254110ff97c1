package ops

import (
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestStatus_says_stale_where_nothing_was_published_within_the_slo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	published := func(age time.Duration) store.Export {
		return store.Export{ID: 1, State: store.StatePublished, CreatedAt: now.Add(-age), FinishedAt: now.Add(-age)}
	}
	failed := store.Export{ID: 2, State: store.StateFailed, ErrorCode: "x", FinishedAt: now}
	for _, test := range []struct {
		name    string
		slo     time.Duration
		enabled bool
		known   store.PayerState
		state   string
		since   time.Duration // before now; 0: not stale
	}{
		{"within it", 2 * time.Hour, true, store.PayerState{Last: published(time.Hour), Published: published(time.Hour)}, "idle", 0},
		{"beyond it", 2 * time.Hour, true, store.PayerState{Last: published(5 * time.Hour), Published: published(5 * time.Hour)}, "stale", 3 * time.Hour},
		{"beyond it, and failed", 2 * time.Hour, true, store.PayerState{Last: failed, Published: published(5 * time.Hour)}, "failed", 3 * time.Hour},
		{"without one", 0, true, store.PayerState{Last: published(5 * time.Hour), Published: published(5 * time.Hour)}, "idle", 0},
		{"disabled", time.Hour, false, store.PayerState{Last: published(5 * time.Hour), Published: published(5 * time.Hour)}, "disabled", 0},
		{"never published, and noted", time.Hour, true, store.PayerState{StaleSince: now.Add(-time.Minute)}, "stale", time.Minute},
		{"never published, and young", time.Hour, true, store.PayerState{}, "never", 0},
	} {
		got := payerStatus(config.Payer{Enabled: test.enabled, FreshnessSLO: test.slo}, test.known, now)
		if got.State != test.state || (got.StaleSince != nil) != (test.since != 0) || got.FreshnessSLOSeconds != test.slo.Seconds() {
			t.Errorf("%s: got state %s, stale since %v, want %s", test.name, got.State, got.StaleSince, test.state)
		}
		if got.StaleSince != nil && !got.StaleSince.Equal(now.Add(-test.since)) {
			t.Errorf("%s: stale since %s, want %s before now", test.name, got.StaleSince, test.since)
		}
	}
}

func TestWaiting_tells_what_an_export_waits_for(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	payers := []config.Payer{{Name: "quiet", Timezone: "UTC", NotBetween: "08:00-18:00"}, {Name: "open", Timezone: "UTC"}}
	for _, c := range []struct {
		name string
		x    store.Export
		at   time.Time
		want string
	}{
		{"in the blackout", store.Export{Payer: "quiet", State: store.StateStarting, Waiting: true}, noon, "not_between"},
		{"behind it", store.Export{Payer: "quiet", State: store.StateStarting, Waiting: true}, noon.Add(8 * time.Hour), "max_exports"},
		{"by hand", store.Export{Payer: "quiet", State: store.StateStarting, Waiting: true, Trigger: store.TriggerManual}, noon, "max_exports"},
		{"of a payer without one", store.Export{Payer: "open", State: store.StateStarting, Waiting: true}, noon, "max_exports"},
		{"of a payer that is gone", store.Export{Payer: "gone", State: store.StateStarting, Waiting: true}, noon, "max_exports"},
		{"that has had its turn", store.Export{Payer: "quiet", State: store.StateStarting}, noon, ""},
		{"that was canceled while it waited", store.Export{Payer: "quiet", State: store.StateCanceled, Waiting: true}, noon, ""},
	} {
		if got := waitingFor(c.x, payers, c.at); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
