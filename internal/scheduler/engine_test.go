package scheduler

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

func TestEngine_stops_at_a_checkpoint_and_another_goes_on_from_there(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	lines := patients(3000)
	p.onFile = func(w http.ResponseWriter) {
		for i, line := range lines {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
			if i%100 == 99 {
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond) // the pace of a slow payer
			}
		}
	}
	first := newEngine(t, s, Options{Tuning: Tuning{ChunkBytes: 8 << 10}}, p)
	stop := work(t, first)
	id, err := first.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	staged := func() int { return number(t, s, `SELECT coalesce(sum(lines), 0) FROM ingest.export_file`) }
	wait(t, "the first chunks", func() bool { return staged() > 100 })
	stop()
	at := staged()
	if at >= len(lines) {
		t.Fatalf("the file was loaded before the engine stopped: %d lines", at)
	}
	if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'load_file' AND state = 'available' AND errors IS NULL`); n != 1 {
		t.Errorf("%d loads wait for another instance, want 1 that did not fail", n)
	}
	work(t, newEngine(t, s, Options{}, p))
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if n := number(t, s, `SELECT count(DISTINCT id) FROM fhir.patient`); n != len(lines) {
		t.Errorf("got %d patients, want %d", n, len(lines))
	}
	if n := number(t, s, `SELECT lines FROM ingest.export`); n != len(lines) {
		t.Errorf("the ledger says %d lines, want %d", n, len(lines))
	}
	wait(t, "the clean-up", func() bool { _, deleted := p.seen(); return slices.Equal(deleted, []string{"1"}) })
}

func TestStartExport_ends_at_the_payer_what_was_canceled_meanwhile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	e := newEngine(t, s, Options{}, p)
	var id int64
	p.onKickOff = func(http.ResponseWriter, int) bool {
		wait(t, "the export's number", func() bool { return id != 0 })
		if err := e.Cancel(t.Context(), id, store.Actor{Name: "a test"}); err != nil {
			t.Error(err)
		}
		return true
	}
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the DELETE of what nobody would ask for", func() bool { _, deleted := p.seen(); return slices.Equal(deleted, []string{"1"}) })
	if got := state(t, s, id); got != store.StateCanceled {
		t.Errorf("the export is %s", got)
	}
}

func TestStartExport_is_tried_again_when_the_payer_says(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n == 1 {
			w.Header().Set("Retry-After", "6")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n > 1
	}
	e := newEngine(t, s, Options{}, p)
	if _, err := e.Start(t.Context(), "p", RunOptions{}); err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the second kick-off", func() bool { kickOffs, _ := p.seen(); return len(kickOffs) == 2 })
	if kickOffs, _ := p.seen(); kickOffs[1].Sub(kickOffs[0]) < 6*time.Second {
		t.Errorf("asked again after %s, the payer said 6 s", kickOffs[1].Sub(kickOffs[0]))
	}
}

func TestStartExport_of_a_payer_that_stays_busy_ends_with_the_exports_time(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(p *config.Payer) { p.Export.Timeout = time.Hour })
	p.onKickOff = func(w http.ResponseWriter, _ int) bool {
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	execute(t, s, `UPDATE ingest.export SET created_at = now() - interval '2 hours'`)
	work(t, e)
	wait(t, "the failure", func() bool { return state(t, s, id) == store.StateFailed })
}

func TestReap_makes_a_lost_clean_up_up(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	e := newEngine(t, s, Options{}, p)
	killed := newEngine(t, s, Options{Queue: "run_killed"}, p)
	id, err := killed.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, s, `DELETE FROM river.river_job`)
	err = s.InTx(t.Context(), func(tx pgx.Tx) error { return killed.failTx(t.Context(), tx, x, store.Failure{Code: "x"}) })
	if err != nil {
		t.Fatal(err)
	}
	reap := func(overdue string, want int) {
		t.Helper()
		execute(t, s, `UPDATE ingest.export SET job_due_at = now() - $1::interval`, overdue)
		if err := e.reap(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'clean_up' AND queue = 'control'`)
		if n != want {
			t.Errorf("%s overdue: got %d clean-ups on the daemons' queue, want %d", overdue, n, want)
		}
	}
	reap("0 s", 0)
	reap("1 min", 1)
	reap("1 min", 1)
	work(t, e)
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`) == 1
	})
	reap("1 min", 1)
}

func TestRun_in_the_foreground_does_not_wait_for_a_daemon_that_is_not_there(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Join(patients(3), "")) }
	id, err := newEngine(t, s, Options{}, p).Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	execute(t, s, `UPDATE ingest.export SET job_due_at = now() - interval '1 min'`)
	foreground := newEngine(t, s, Options{Queue: "run_1", ReapInterval: 100 * time.Millisecond}, p)
	for range 2 { // its own job, which waits now, is not enqueued again
		execute(t, s, `UPDATE ingest.export SET job_due_at = now() - interval '1 min'`)
		if err := foreground.reap(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'start_export' AND queue = 'run_1'`); n != 1 {
			t.Fatalf("%d kick-offs wait in the foreground, want one", n)
		}
	}
	work(t, foreground)
	x, err := foreground.Watch(t.Context(), id, func(store.Progress) {})
	if err != nil || x.State != store.StatePublished || x.Lines != 3 {
		t.Errorf("got %s with %d lines, %v", x.State, x.Lines, err)
	}
	wait(t, "what it enqueues for daemons while it leads", func() bool {
		return number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'reap' AND queue = 'fleet'`) > 0
	})
}

func TestINC1_the_watermark_does_not_move_over_a_gap(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := newEngine(t, s, Options{})
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	transaction := at.AddDate(0, 1, 0)
	configured := config.Payer{Name: "p", Export: config.Export{Since: "2026-02-01T00:00:00Z"}}
	auto := config.Payer{Name: "p", Export: config.Export{Since: "auto"}}
	known := store.Export{Payer: "p", Series: series(auto), Kind: store.KindIncremental, TransactionAt: transaction}
	watermarkAt(t, s, auto, at, "")
	for _, test := range []struct {
		name  string
		payer config.Payer
		kind  store.Kind
		since string
		other bool // of a series without watermark
		moves bool
	}{
		{"a full export", auto, store.KindFull, "", true, true},
		{"a full export with full_since", auto, store.KindFull, "2026-03-15T00:00:00Z", false, true},
		{"from the watermark on", auto, store.KindIncremental, "2026-03-01T00:00:00Z", false, true},
		{"from before", auto, store.KindIncremental, "2026-02-28T23:50:00Z", false, true},
		{"from later, by hand", auto, store.KindIncremental, "2026-03-15T00:00:00Z", false, false},
		{"by hand, nothing published", auto, store.KindIncremental, "2026-03-15T00:00:00Z", true, false},
		{"the configured beginning", configured, store.KindIncremental, "2026-02-01T00:00:00Z", true, true},
		{"by hand, after the configured beginning", configured, store.KindIncremental, "2026-02-02T00:00:00Z", true, false},
	} {
		x := known
		x.Kind, x.Since = test.kind, test.since
		if test.other {
			x.Series = "another"
		}
		got, err := e.nextWatermark(t.Context(), test.payer, x)
		if err != nil || got.Equal(transaction) != test.moves || !test.moves && !got.IsZero() {
			t.Errorf("%s: moves to %s, %v; want that it moves: %v", test.name, got, err, test.moves)
		}
	}
}

func TestSettle_tries_again_waits_or_leaves_to_others(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := newEngine(t, s, Options{})
	for _, test := range []struct {
		name   string
		err    error
		x      store.Export
		snooze bool
		atLeast,
		atMost time.Duration
	}{
		{
			"the payer asks to wait", &export.Error{Action: export.ActionWait, RetryAfter: time.Minute},
			store.Export{},
			true, time.Minute, time.Minute,
		},
		{"it gives no time", &export.Error{Action: export.ActionWait}, store.Export{}, true, time.Second, time.Second},
		{"an error of the payer", &export.Error{Action: export.ActionRetry}, store.Export{}, false, 2 * time.Second, 3 * time.Second},
		{
			"with a time", &export.Error{Action: export.ActionRetry, RetryAfter: time.Hour},
			store.Export{},
			false, time.Hour, time.Hour,
		},
		{
			"a replica that lags", &export.Error{Phase: export.PhaseStatus, Action: export.ActionRestart, Grace: time.Hour},
			store.Export{KickedOffAt: time.Now()},
			false, 2 * time.Second, 3 * time.Second,
		},
		{"Postgres", errors.New("connection refused"), store.Export{}, false, 2 * time.Second, 3 * time.Second},
		{"a payer that others may know", &UnknownPayerError{"p"}, store.Export{}, false, 2 * time.Second, 3 * time.Second},
	} {
		job := &river.Job[pollExportArgs]{JobRow: &rivertype.JobRow{ID: 7, Kind: "poll_export", Attempt: 1, MaxAttempts: 3}}
		var noted time.Duration
		err := settle(t.Context(), e, job, test.x, test.err, func(wait time.Duration) error { noted = wait; return nil })
		var snoozed *river.JobSnoozeError
		if err == nil || errors.As(err, &snoozed) != test.snooze || noted < test.atLeast || noted > test.atMost {
			t.Errorf("%s: got %v in %s", test.name, err, noted)
			continue
		}
		next := time.Until(e.retries.NextRetry(job.JobRow))
		if test.snooze {
			next = snoozed.Duration
		}
		if d := next - noted; d < -time.Second || d > time.Second {
			t.Errorf("%s: runs again in %s, the reaper was told %s", test.name, next, noted)
		}
	}
}
