package scheduler

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/store"
)

// seenPruned is an Observer that adds up what is pruned.
type seenPruned struct {
	nobody

	mu     sync.Mutex
	rows   map[string]int64
	failed int
}

func (o *seenPruned) Pruned(table string, rows int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rows[table] += rows
}

func (o *seenPruned) PruneFailed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed++
}

func (o *seenPruned) failures() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

func (o *seenPruned) of(table string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rows[table]
}

func TestPrune_runs_with_the_engine_and_the_next_export_goes_on_from_the_watermark(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Join(patients(3), "")) }
	seen, log := &seenPruned{rows: make(map[string]int64)}, &syncBuffer{}
	e := newEngine(t, s, Options{
		Observer: seen, Logger: newTextLogger(log), PruneInterval: 200 * time.Millisecond,
		Tuning: Tuning{Retention: store.Retention{Exports: 30 * 24 * time.Hour}},
	}, p)
	stop := work(t, e)
	start := func() store.Export {
		t.Helper()
		id, err := e.Start(t.Context(), "p", RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the clean-up", func() bool {
			return number(t, s, `SELECT count(*) FROM ingest.export WHERE id = $1 AND cleaned_up_at IS NOT NULL`, id) == 1
		})
		x, err := s.Export(t.Context(), id)
		if err != nil || x.State != store.StatePublished {
			t.Fatalf("got %s, %v", x.State, err)
		}
		return x
	}
	full, second := start(), start()
	if full.Kind != store.KindFull || second.Kind != store.KindIncremental {
		t.Fatalf("got a %s and a %s export", full.Kind, second.Kind)
	}
	// Both are old, and as many of today as stay in any case came behind them.
	execute(t, s, `INSERT INTO ingest.export (payer, kind, trigger, series, state, created_at, finished_at, cleaned_up_at)
		SELECT 'p', 'incremental', 'schedule', 's', 'failed', at, at, at FROM (SELECT now() AS at, n FROM generate_series(1, $1::int) AS n) AS today`,
		store.KeptExports)
	execute(t, s, `INSERT INTO ingest.tick (payer, schedule, due_at, fired_at, outcome)
		SELECT 'p', 'schedule', at, at, 'started' FROM unnest(ARRAY[now() - interval '100 days', now() - interval '1 day']) AS at`)
	if number(t, s, `SELECT count(*) FROM ingest.watermark WHERE export_id = $1`, second.ID) == 0 {
		execute(t, s, `UPDATE ingest.watermark SET export_id = $1`, second.ID)
	}
	execute(t, s, `UPDATE ingest.export SET created_at = created_at - interval '100 days', finished_at = finished_at - interval '100 days',
		kind = CASE WHEN id = $1 THEN 'incremental' ELSE kind END, transaction_at = CASE WHEN id = $1 THEN '2020-01-01' ELSE transaction_at END
		WHERE id <= $2`, full.ID, second.ID)

	wait(t, "the round", func() bool { return seen.of("export") == 1 && seen.of("export_file") > 0 && seen.of("tick") == 1 })
	if n := number(t, s, `SELECT count(*) FROM ingest.export WHERE id = $1`, full.ID); n != 0 {
		t.Error("the old export is still there")
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.export WHERE id = $1`, second.ID); n != 1 {
		t.Error("the newest published export is gone")
	}
	third := start()
	if third.Kind != store.KindIncremental || third.Since != second.Since {
		t.Errorf("got a %s export since %q, want an incremental one since %q", third.Kind, third.Since, second.Since)
	}
	wait(t, "the log", func() bool { return strings.Contains(log.String(), "pruned what is kept no longer") })
	stop()
	if text := log.String(); strings.Contains(text, "pruning failed") || seen.failures() != 0 {
		t.Errorf("the log says:\n%s", text)
	}
}

func TestPrune_that_fails_is_told_and_tried_again(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	seen, log := &seenPruned{rows: make(map[string]int64)}, &syncBuffer{}
	e := newEngine(t, s, Options{
		Observer: seen, Logger: newTextLogger(log), PruneInterval: 100 * time.Millisecond,
		Tuning: Tuning{Retention: store.Retention{Exports: 30 * 24 * time.Hour}},
	})
	execute(t, s, `ALTER TABLE ingest.outcome RENAME TO elsewhere`)
	execute(t, s, `INSERT INTO ingest.export (payer, kind, trigger, series, state, created_at, finished_at, cleaned_up_at)
		SELECT 'p', 'incremental', 'schedule', 's', 'published', at, at, at FROM (
			SELECT now() - make_interval(days => CASE n WHEN 1 THEN 100 ELSE 1 END) AS at FROM generate_series(1, $1::int) AS n ORDER BY n) AS x`,
		store.KeptExports+1)
	work(t, e)
	wait(t, "the failure", func() bool { return strings.Contains(log.String(), "pruning failed") })
	if seen.failures() == 0 {
		t.Error("the failure is not counted")
	}
	execute(t, s, `ALTER TABLE ingest.elsewhere RENAME TO outcome`)
	wait(t, "the next round", func() bool { return number(t, s, `SELECT count(*) FROM ingest.export`) == store.KeptExports })
}

func TestPrune_is_not_enqueued_by_a_run_in_the_foreground(t *testing.T) {
	t.Parallel()
	e := newEngine(t, newStore(t), Options{})
	foreground := newEngine(t, newStore(t), Options{Queue: "run_1"})
	if daemons, ours := len(e.periodicJobs()), len(foreground.periodicJobs()); daemons != 2 || ours != 1 {
		t.Errorf("a daemon enqueues %d kinds of jobs, and a run in the foreground %d; want 2 and 1", daemons, ours)
	}
}
