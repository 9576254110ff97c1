package scheduler

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// record records an export that was due some hours ago, or, where that is 0, was started by hand.
func record(t *testing.T, e *Engine, payer string, hours int) int64 {
	t.Helper()
	n := store.NewExport{Payer: payer, Kind: store.KindFull, Trigger: store.TriggerManual}
	if hours > 0 {
		n.Trigger, n.DueAt = store.TriggerSchedule, time.Now().Add(-time.Duration(hours)*time.Hour)
	}
	var id int64
	err := e.store.InTx(t.Context(), func(tx pgx.Tx) (err error) {
		id, err = e.beginTx(t.Context(), tx, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAdmit_lets_as_many_run_as_may_in_the_order_in_which_they_were_due(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first, second := newEngine(t, s, Options{Tuning: Tuning{MaxExports: 2}}), newEngine(t, s, Options{Tuning: Tuning{MaxExports: 2}})
	byHand := record(t, first, "by_hand", 0)
	late, early := record(t, second, "late", 1), record(t, second, "early", 3)
	middle := record(t, first, "middle", 2)
	running := func(want ...int64) {
		t.Helper()
		for _, e := range []*Engine{first, second, first} {
			if err := e.admit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []int64{byHand, late, early, middle} {
			x, err := s.Export(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if x.State == store.StateStarting && x.Waiting == slices.Contains(want, id) {
				t.Errorf("export %d of %s: waits %v; want those to run: %d", id, x.Payer, x.Waiting, want)
			}
		}
	}
	end := func(id int64, state store.State) {
		t.Helper()
		execute(t, s, `UPDATE ingest.export SET state = $2 WHERE id = $1`, id, state)
	}
	if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'start_export'`); n != 0 {
		t.Errorf("%d kick-offs are enqueued before their turn", n)
	}
	running(early, middle)
	end(early, store.StateFailed)
	running(middle, late)
	end(middle, store.StateHeld) // waits for an operator, and keeps nobody
	running(late, byHand)
	if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'start_export'`); n != 4 {
		t.Errorf("%d kick-offs, want one an export", n)
	}
	execute(t, s, `UPDATE ingest.export SET waiting = true, job_due_at = now() - interval '1 hour' WHERE id = $1`, byHand)
	exports, _, err := s.Overdue(t.Context(), reapGrace)
	if err != nil || slices.ContainsFunc(exports, func(o store.OverdueExport) bool { return o.ID == byHand }) {
		t.Errorf("an export that waits is taken for one whose job is lost: %v, %v", exports, err)
	}
}

func TestEngine_never_runs_more_exports_than_the_fleet_may(t *testing.T) {
	t.Parallel()
	const most = 2
	s := newStore(t)
	var payers []*payer
	atWork := func() int {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE NOT waiting AND state IN ('starting', 'polling', 'loading', 'publishing')`)
	}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		p := newPayer(t, func(p *config.Payer) { p.Name = name })
		p.onFile = func(w http.ResponseWriter) {
			if n := atWork(); n > most {
				t.Errorf("%d exports run at once, want %d at most", n, most)
			}
			_, _ = w.Write([]byte(strings.Join(patients(3), "")))
		}
		payers = append(payers, p)
	}
	var engines []*Engine
	for range 2 {
		engines = append(engines, newEngine(t, s, Options{Tuning: Tuning{MaxExports: most}}, payers...))
	}
	for i, p := range payers {
		if _, err := engines[i%2].Start(t.Context(), p.Config.Name, RunOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := atWork(); n != most {
		t.Errorf("%d exports have their turn, want %d", n, most)
	}
	for _, e := range engines {
		work(t, e)
	}
	wait(t, "all to be published", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE state = 'published'`) == len(payers)
	})
}

// windowAroundNow is a window that begins an hour before the time of day, and ends one after it.
func windowAroundNow() string {
	return time.Now().UTC().Add(-time.Hour).Format("15:04") + "-" + time.Now().UTC().Add(time.Hour).Format("15:04")
}

func TestBlackout_puts_a_kick_off_off_unless_it_is_by_hand(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	resting := newPayer(t, func(p *config.Payer) { p.Name, p.NotBetween = "resting", windowAroundNow() })
	byHand := newPayer(t, func(p *config.Payer) { p.Name, p.NotBetween = "by_hand", windowAroundNow() })
	e := newEngine(t, s, Options{}, resting, byHand)
	id := record(t, e, "resting", 1) // it became due before the window, and its kick-off comes within
	work(t, e)
	waits := func() bool {
		x, err := s.Export(t.Context(), id)
		return err == nil && x.Waiting
	}
	wait(t, "the export to be put off", waits)
	if _, err := e.Start(t.Context(), "by_hand", RunOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the kick-off by hand", func() bool { kickOffs, _ := byHand.seen(); return len(kickOffs) == 1 })
	if err := e.admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kickOffs, _ := resting.seen(); len(kickOffs) > 0 || !waits() {
		t.Error("the payer was asked in its blackout")
	}
}

func TestBlackout_that_is_over_lets_what_was_put_off_begin(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	e := newEngine(t, s, Options{}, p)
	id := record(t, e, "p", 1)
	execute(t, s, `UPDATE ingest.export SET waiting = true, generation = 1 WHERE id = $1`, id)
	work(t, e)
	wait(t, "the kick-off", func() bool { kickOffs, _ := p.seen(); return len(kickOffs) == 1 })
}
