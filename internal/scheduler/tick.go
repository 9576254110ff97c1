package scheduler

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

const (
	// lookInterval is how often an instance looks what is due, beside the times at which it knows something to be.
	lookInterval = 5 * time.Second
	// lookTimeout bounds one look: what is left is found by the next.
	lookTimeout = time.Minute
	// futureTolerance is how far ahead of the clock a tick may stand that was acted on. The clock may have been set back by less;
	// more than that, and it was wrong when the tick was recorded.
	futureTolerance = time.Hour
)

// ticker turns what is due into exports. Each instance has one, and none leads: they all look, by the database's clock, and a
// tick is whose claim is committed first. So the loss of any instance delays no tick, and none is kept anywhere but in
// ingest.tick.
type ticker struct {
	engine     *Engine
	timetables map[string]*timetable
	read       map[string]tickSettings // what the timetables were made of
	looked     bool
}

// tickSettings are what a payer's timetable follows from.
type tickSettings struct {
	enabled                         bool
	schedule, full, timezone, quiet string
	jitter, catchUp                 time.Duration
}

func newTicker(e *Engine) *ticker {
	return &ticker{engine: e, timetables: make(map[string]*timetable), read: make(map[string]tickSettings)}
}

// run looks what is due until ctx ends.
func (t *ticker) run(ctx context.Context) {
	for {
		wait, err := t.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.engine.logger.WarnContext(ctx, "cannot look what is due, will try again", "error", err, "wait", lookInterval)
			wait = lookInterval
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// look acts on all that is due, and returns when to look again.
func (t *ticker) look(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	e := t.engine
	now, back, err := e.clock.look(ctx)
	if err != nil {
		return 0, err
	}
	if back || !t.looked {
		if err := t.forgetFuture(ctx); err != nil {
			return 0, err
		}
		t.looked = true
	}
	if err := t.follow(e.roster.all()); err != nil {
		return 0, err
	}
	if err := errors.Join(t.act(ctx, now), e.admit(ctx)); err != nil {
		return 0, err
	}
	return t.untilNext(e.clock.Now()), nil
}

// follow makes timetables for the payers of the configuration, and keeps those whose settings are the same.
func (t *ticker) follow(payers map[string]Payer) error {
	maps.DeleteFunc(t.timetables, func(name string, _ *timetable) bool { _, ok := payers[name]; return !ok })
	for name, p := range payers {
		settings := tickSettingsOf(p.Config)
		if t.timetables[name] != nil && t.read[name] == settings {
			continue
		}
		made, err := newTimetable(p.Config)
		if err != nil {
			return err
		}
		t.timetables[name], t.read[name] = made, settings
	}
	return nil
}

func tickSettingsOf(p config.Payer) tickSettings {
	return tickSettings{p.Enabled, p.Schedule, p.Export.FullSchedule, p.Timezone, p.NotBetween, p.Jitter, p.CatchUp}
}

// act decides about all payers of which something may be due, and does what was decided, first what was due first.
func (t *ticker) act(ctx context.Context, now time.Time) error {
	var names []string
	for name, table := range t.timetables {
		if table.mayBeDue(now) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	known, err := t.engine.store.TickStates(ctx, names)
	if err != nil {
		return err
	}
	var due []decision
	for _, name := range names {
		due = append(due, t.timetables[name].decide(known[name], now)...)
	}
	// Instances that look at once begin at different ones among equals, so that they share the work.
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] }) //nolint:gosec // no secret
	slices.SortStableFunc(due, func(a, b decision) int { return a.due.Compare(b.due) })
	var failed []error
	for _, d := range due {
		if ctx.Err() != nil {
			break
		}
		if err := t.engine.tick(ctx, d); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// untilNext is how long nothing is due, as far as is known, and not longer than lookInterval.
func (t *ticker) untilNext(now time.Time) time.Duration {
	wait := lookInterval
	for _, table := range t.timetables {
		if wake := table.wake(now); !wake.IsZero() {
			wait = min(wait, wake.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}

// forgetFuture removes ticks that were recorded by a clock that was wrong, and looks all up again.
func (t *ticker) forgetFuture(ctx context.Context) error {
	n, err := t.engine.store.ForgetFutureTicks(ctx, futureTolerance)
	if err != nil {
		return err
	}
	if n > 0 {
		t.engine.logger.WarnContext(ctx, "ticks of the future were recorded: the clock of the database has been wrong; they are forgotten",
			"ticks", n)
	}
	for _, table := range t.timetables {
		table.forget()
	}
	return nil
}

// tick does what was decided about a tick: in one transaction it is claimed and its export is begun. Where another
// instance has claimed it, nothing is left to do.
func (e *Engine) tick(ctx context.Context, d decision) error {
	log := e.logger.With("payer", d.payer, "schedule", d.schedule, "due_at", d.due)
	var request store.NewExport
	if d.outcome == store.TickStarted {
		p, ok := e.roster.payer(d.payer)
		if !ok {
			return nil // it was removed since
		}
		var err error
		if request, err = e.scheduledExport(ctx, p.Config, d.schedule == store.ScheduleFull); err != nil {
			return err
		}
		request.DueAt = d.due
	}
	claimed, id := false, int64(0)
	err := e.store.InTx(ctx, func(tx pgx.Tx) (err error) {
		claimed, err = e.store.ClaimTickTx(ctx, tx, d.payer, d.schedule, d.due)
		if err != nil || !claimed || d.outcome == store.TickRegistered {
			return err
		}
		if d.outcome == store.TickStarted {
			id, err = e.beginTx(ctx, tx, request)
			if errors.Is(err, store.ErrExportRunning) && d.schedule != store.ScheduleFull {
				d.outcome, err = store.TickSkipped, nil // it began since
			}
			if err != nil {
				return err
			}
		}
		if err := e.store.NoteTickTx(ctx, tx, d.payer, d.schedule, d.due, d.outcome, id); err != nil {
			return err
		}
		if d.outcome == store.TickStarted {
			failpoint.Here(failpoint.TickCommit)
		}
		return nil
	})
	if errors.Is(err, store.ErrExportRunning) {
		return nil // a full export has its turn later
	}
	if err != nil || !claimed {
		return err
	}
	switch d.outcome {
	case store.TickStarted:
		failpoint.Here(failpoint.TickCommitted)
		log.InfoContext(ctx, "export due", "export_id", id, "kind", request.Kind)
	case store.TickSkipped:
		log.WarnContext(ctx, "tick skipped: the payer's last export is not finished")
	case store.TickMissed:
		log.WarnContext(ctx, "tick missed: it is later than catch_up, and is not made up")
	case store.TickRegistered:
	}
	return nil
}
