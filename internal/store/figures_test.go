package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

func TestFigures_say_of_each_payer_what_its_exports_came_to(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	for _, sql := range []string{
		`INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_at, finished_at, lines, quarantined) VALUES
			('a', 'published', 'full', 'manual', '', '2026-01-03', '2026-01-03 01:00', 100, 1),
			('a', 'published', 'full', 'manual', '', '2026-01-02', '2026-01-04', 50, 5),
			('a', 'published', 'backfill', 'newcomers', '', '2026-01-09', '2026-01-09', 1, 1),
			('a', 'failed', 'full', 'manual', '', NULL, '2026-01-10', 0, 0),
			('b', 'starting', 'full', 'manual', '', NULL, NULL, 0, 0)`,
		`UPDATE ingest.export SET waiting = true WHERE payer = 'b'`,
		`INSERT INTO ingest.incident (payer, event, exports) VALUES ('a', 'failed', 3), ('b', 'stale', 0)`,
		`INSERT INTO ingest.payer (payer, paused_at) VALUES ('b', now())`,
		`INSERT INTO ingest.instance (id, host, pid, version, digest, payers) VALUES
			('1', 'h', 1, 'v', 'd', '{"a": "1"}'), ('2', 'h', 2, 'v', 'd', '{"a": "2", "b": "1"}')`,
		`INSERT INTO river.river_job (state, kind, queue, max_attempts, args, scheduled_at, finalized_at) VALUES
			('available', 'x', 'control', 1, '{}', now() - interval '90 s', NULL),
			('available', 'x', 'control', 1, '{}', now() - interval '10 s', NULL),
			('scheduled', 'x', 'bulk', 1, '{}', now() + interval '1 h', NULL),
			('completed', 'x', 'bulk', 1, '{}', now() - interval '1 h', now()),
			('available', 'x', 'run-1', 1, '{}', now() - interval '5 s', NULL),
			('available', 'x', 'run-2', 1, '{}', now() - interval '7 s', NULL)`,
	} {
		if _, err := s.Pool().Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	f, err := s.Figures(ctx, []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(f.Payers, func(x, y store.PayerFigures) int { return strings.Compare(x.Payer, y.Payer) })
	if len(f.Payers) != 3 {
		t.Fatalf("got %+v, want three payers", f.Payers)
	}
	a, b, c := f.Payers[0], f.Payers[1], f.Payers[2]
	day := func(d, hour int) time.Time { return time.Date(2026, 1, d, hour, 0, 0, 0, time.UTC) }
	if a.State != store.StateFailed || a.Lines != 50 || a.Quarantined != 5 || a.Failed != 3 || a.Paused ||
		!a.PublishedAt.Equal(day(4, 0)) || !a.FreshAt.Equal(day(3, 0)) || !a.StaleSince.IsZero() {
		t.Errorf("a: got %+v", a)
	}
	if b.State != store.StateStarting || !b.Waiting || !b.Paused || b.StaleSince.IsZero() || !b.PublishedAt.IsZero() {
		t.Errorf("b: got %+v", b)
	}
	if c != (store.PayerFigures{Payer: "c"}) {
		t.Errorf("c: got %+v, want nothing", c)
	}
	if f.Instances != 2 || f.Leads || !slices.Equal(slices.Sorted(slices.Values(f.Mismatched)), []string{"a", "b"}) {
		t.Errorf("the fleet: got %d instances, leader %t, mismatched %v", f.Instances, f.Leads, f.Mismatched)
	}
	queues := make(map[string]store.QueueFigures)
	for _, q := range f.Queues {
		queues[q.Queue] = q
	}
	if q := queues["control"]; q.Due != 2 || q.OldestDue < 80*time.Second {
		t.Errorf("control: got %+v, want 2 due for 90 s", q)
	}
	if q := queues["bulk"]; q.Due != 0 || q.Later != 1 || q.OldestDue != 0 {
		t.Errorf("bulk: got %+v, want one later", q)
	}
	if q := queues["foreground"]; q.Due != 2 || len(queues) != 3 {
		t.Errorf("queues: got %+v, want those of runs in the foreground as one", queues)
	}
}

// A scrape comes every few seconds for ever: its cost must not follow the history.
func TestFigures_do_not_read_the_history_of_exports(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	for _, sql := range []string{
		`INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_at, finished_at)
			SELECT 'p' || i % 20, 'published', 'full', 'schedule', '', now() - i * interval '1 min', now() FROM generate_series(1, 20000) AS i`,
		`ANALYZE ingest.export`,
	} {
		if _, err := s.Pool().Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for name, sql := range map[string]string{
		"the newest":           `SELECT state FROM ingest.export WHERE payer = 'p1' ORDER BY id DESC LIMIT 1`,
		"the newest published": `SELECT lines FROM ingest.export WHERE payer = 'p1' AND state = 'published' AND kind <> 'backfill' ORDER BY id DESC LIMIT 1`,
		"the freshest": `SELECT transaction_at FROM ingest.export WHERE payer = 'p1' AND state = 'published' AND kind <> 'backfill'
			AND transaction_at IS NOT NULL ORDER BY transaction_at DESC LIMIT 1`,
	} {
		var plan []byte
		if err := s.Pool().QueryRow(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql).Scan(&plan); err != nil {
			t.Fatal(err)
		}
		var explained []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal(plan, &explained); err != nil {
			t.Fatal(err)
		}
		if blocks := explained[0].Plan.Hit + explained[0].Plan.Read; blocks > 20 {
			t.Errorf("%s of 1000 exports of a payer: read %d blocks, want a few: %s", name, blocks, plan)
		}
	}
	began := time.Now()
	payers := make([]string, 0, 20)
	for i := range 20 {
		payers = append(payers, "p"+string(rune('0'+i%10)))
	}
	if _, err := s.Figures(ctx, payers); err != nil {
		t.Fatal(err)
	}
	t.Logf("20 payers with 1000 exports each: %s", time.Since(began))
}
