package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestTimetable_decides_what_becomes_of_a_tick(t *testing.T) {
	t.Parallel()
	const (
		full        = store.ScheduleFull
		incremental = store.ScheduleIncremental
	)
	nightly := config.Payer{Name: "p", Enabled: true, Schedule: "0 2 * * *"}
	both := nightly
	both.Export.FullSchedule = "0 2 1 * *"
	patient := both
	patient.CatchUp = time.Hour
	quiet := patient
	quiet.NotBetween = "01:00-06:00"
	disabled := nightly
	disabled.Enabled = false
	for _, test := range []struct {
		name  string
		payer config.Payer
		last  string // of both schedules; "" for none
		now   string
		known store.TickState
		want  string
	}{
		{"never seen", both, "", "2026-05-10T12:00:00Z", store.TickState{}, "full_schedule 10T12:00 registered, schedule 10T12:00 registered"},
		{"not due", both, "2026-05-10T02:00:00Z", "2026-05-11T01:59:59Z", store.TickState{}, ""},
		{"due", both, "2026-05-10T02:00:00Z", "2026-05-11T02:00:00Z", store.TickState{}, "schedule 11T02:00 started"},
		{"missed for days", both, "2026-05-10T02:00:00Z", "2026-05-14T09:00:00Z", store.TickState{}, "schedule 14T02:00 started"},
		{
			"both at once", both, "2026-05-30T02:00:00Z", "2026-06-01T02:00:00Z",
			store.TickState{},
			"full_schedule 01T02:00 started, schedule 01T02:00 skipped",
		},
		{"an export runs", nightly, "2026-05-10T02:00:00Z", "2026-05-11T02:00:00Z", store.TickState{Active: true}, "schedule 11T02:00 skipped"},
		{"a full one has its turn later", both, "2026-05-31T02:00:00Z", "2026-06-01T02:00:00Z", store.TickState{Active: true}, "schedule 01T02:00 skipped"},
		{"paused", both, "2026-05-10T02:00:00Z", "2026-05-14T09:00:00Z", store.TickState{Paused: true}, ""},
		{"disabled", disabled, "2026-05-10T02:00:00Z", "2026-05-14T09:00:00Z", store.TickState{}, ""},
		{"within catch_up", patient, "2026-05-10T02:00:00Z", "2026-05-11T03:00:00Z", store.TickState{}, "schedule 11T02:00 started"},
		{"later than catch_up", patient, "2026-05-10T02:00:00Z", "2026-05-11T03:00:01Z", store.TickState{}, "schedule 11T02:00 missed"},
		{
			"a full one that waited for the one before", patient, "2026-05-31T02:00:00Z", "2026-06-01T05:00:00Z",
			store.TickState{FinishedAt: at(t, "2026-06-01T04:30:00Z")},
			"full_schedule 01T02:00 started, schedule 01T02:00 missed",
		},
		{"in the blackout", quiet, "2026-05-10T02:00:00Z", "2026-05-11T05:59:59Z", store.TickState{}, ""},
		{"after the blackout", quiet, "2026-05-10T02:00:00Z", "2026-05-11T06:00:00Z", store.TickState{}, "schedule 11T02:00 started"},
		{"long after the blackout", quiet, "2026-05-10T02:00:00Z", "2026-05-11T07:00:01Z", store.TickState{}, "schedule 11T02:00 missed"},
		{"a tick of the future", nightly, "2027-01-01T02:00:00Z", "2026-05-11T02:00:00Z", store.TickState{}, ""},
	} {
		table, err := newTimetable(test.payer)
		if err != nil {
			t.Fatal(err)
		}
		known := test.known
		if test.last != "" {
			known.Last = map[store.Schedule]time.Time{full: at(t, test.last), incremental: at(t, test.last)}
		}
		var got []string
		for _, d := range table.decide(known, at(t, test.now)) {
			got = append(got, fmt.Sprintf("%s %s %s", d.schedule, d.due.UTC().Format("02T15:04"), d.outcome))
		}
		if text := strings.Join(got, ", "); text != test.want {
			t.Errorf("%s: got %q, want %q", test.name, text, test.want)
		}
	}
}

func TestTimetable_asks_the_database_only_when_something_may_be_due(t *testing.T) {
	t.Parallel()
	table, err := newTimetable(config.Payer{Name: "p", Enabled: true, Schedule: "0 2 * * *", NotBetween: "01:00-06:00"})
	if err != nil {
		t.Fatal(err)
	}
	now := at(t, "2026-05-10T12:00:00Z")
	if !table.mayBeDue(now) {
		t.Error("a schedule that was never looked up is not asked for")
	}
	table.decide(store.TickState{Last: map[store.Schedule]time.Time{store.ScheduleIncremental: now}}, now)
	if table.mayBeDue(now) || table.mayBeDue(at(t, "2026-05-11T01:59:59Z")) {
		t.Error("it is asked for before it is due")
	}
	if wake := table.wake(now); !wake.Equal(at(t, "2026-05-11T02:00:00Z")) {
		t.Errorf("it is looked at again at %s, want when it is due", wake)
	}
	inBlackout := at(t, "2026-05-11T02:00:00Z")
	if wake := table.wake(inBlackout); !table.mayBeDue(inBlackout) || !wake.Equal(at(t, "2026-05-11T06:00:00Z")) {
		t.Errorf("in the blackout it is looked at again at %s, want its end", wake)
	}
}
