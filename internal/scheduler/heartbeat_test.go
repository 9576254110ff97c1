package scheduler

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
)

func TestReap_asks_again_what_an_instance_that_is_gone_was_asking_and_leaves_the_living_alone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var payers []*payer
	for _, name := range []string{"dead", "alive"} {
		payers = append(payers, newPayer(t, func(p *config.Payer) { p.Name = name }))
	}
	e := newEngine(t, s, Options{}, payers...)
	ids := make(map[string]int64)
	for _, p := range payers {
		id, err := e.Start(t.Context(), p.Config.Name, RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ids[p.Config.Name] = id
		// As it stands while an instance is at it.
		execute(t, s, `UPDATE river.river_job SET state = 'running', attempted_at = now(), attempt = 1, attempted_by = ARRAY['before', $2]
			WHERE (args ->> 'export_id')::bigint = $1`, id, p.Config.Name)
		execute(t, s, `UPDATE ingest.export SET job_due_at = now() + interval '2 minutes' WHERE id = $1`, id)
		execute(t, s, `INSERT INTO ingest.heartbeat (worker, seen_at) VALUES ($1, now() - interval '10 seconds')`, p.Config.Name)
	}
	reap := func() {
		t.Helper()
		if err := s.HastenOrphans(t.Context(), beatPatience, reapGrace); err != nil {
			t.Fatal(err)
		}
		if err := e.reap(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	generation := func(payer string) int {
		return number(t, s, `SELECT generation FROM ingest.export WHERE id = $1`, ids[payer])
	}
	reap()
	if generation("dead") != 0 || generation("alive") != 0 {
		t.Error("work of instances that were seen a moment ago is taken over")
	}
	execute(t, s, `UPDATE ingest.heartbeat SET seen_at = now() - interval '20 seconds' WHERE worker = 'dead'`)
	reap()
	reap()
	if generation("dead") != 1 || generation("alive") != 0 {
		t.Errorf("generations: dead %d, alive %d; want 1 and 0", generation("dead"), generation("alive"))
	}
	if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'start_export' AND state = 'available'`); n != 1 {
		t.Errorf("%d jobs wait, want the one of the dead", n)
	}
}

func TestReap_cleans_up_again_what_an_instance_that_is_gone_was_cleaning_up(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := newEngine(t, s, Options{}, newPayer(t, nil))
	id := number(t, s, `INSERT INTO ingest.export (payer, kind, trigger, series, state, finished_at, job_due_at)
		VALUES ('p', 'full', 'schedule', 's', 'failed', now(), now()) RETURNING id`)
	at := func(worker string) {
		t.Helper()
		execute(t, s, `UPDATE river.river_job SET state = 'running', attempted_at = now(), attempt = 1, attempted_by = ARRAY[$1]
			WHERE kind = 'clean_up' AND state = 'available'`, worker)
		execute(t, s, `UPDATE ingest.export SET job_due_at = now() + interval '3 minutes' WHERE id = $1`, id)
	}
	reap := func(want int) {
		t.Helper()
		for range 2 {
			if err := errors.Join(s.HastenOrphans(t.Context(), beatPatience, reapGrace), e.reap(t.Context(), 0)); err != nil {
				t.Fatal(err)
			}
		}
		if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'clean_up' AND state = 'available'`); n != want {
			t.Errorf("%d jobs wait, want %d", n, want)
		}
	}
	execute(t, s, `INSERT INTO ingest.heartbeat (worker, seen_at) VALUES ('dead', now()), ('alive', now() + interval '1 hour')`)
	err := s.InTx(t.Context(), func(tx pgx.Tx) error {
		return e.insertTx(t.Context(), tx, cleanUpArgs{ExportID: int64(id)}, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	at("one that died before its first heartbeat")
	reap(0)
	execute(t, s, `UPDATE river.river_job SET attempted_at = now() - interval '20 seconds' WHERE kind = 'clean_up'`)
	reap(1)
	at("dead")
	reap(0)
	execute(t, s, `UPDATE ingest.heartbeat SET seen_at = now() - interval '20 seconds' WHERE worker = 'dead'`)
	reap(1)
	at("alive")
	reap(0) // the job of the dead still stands as running
}

func TestEngine_beats_while_it_works(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	stop := work(t, newEngine(t, s, Options{}))
	wait(t, "a heartbeat", func() bool { return number(t, s, `SELECT count(*) FROM ingest.heartbeat`) == 1 })
	stop()
	execute(t, s, `UPDATE ingest.heartbeat SET seen_at = now() - interval '2 days'`)
	if err := s.HastenOrphans(context.Background(), time.Second, time.Second); err != nil {
		t.Fatal(err)
	}
	if n := number(t, s, `SELECT count(*) FROM ingest.heartbeat`); n != 0 {
		t.Error("a worker that is long gone is not forgotten")
	}
}
