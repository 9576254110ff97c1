package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"ingestd/internal/store"
)

const (
	// pruneInterval is how often what is kept no longer is looked for; by then there is little of it.
	pruneInterval = 10 * time.Minute
	// pruneRound bounds one round; what is left is for the next. Of that time, Postgres works half.
	pruneRound = 20 * time.Second

	// tickRetention is how long ticks are kept, to show what the schedule did.
	tickRetention = 90 * 24 * time.Hour
	// settingsRetention is how long the settings that an export began with are kept after its end, to tell what it asked for.
	settingsRetention = 90 * 24 * time.Hour
)

// pruneArgs ask for a round of pruning.
type pruneArgs struct{}

// Kind implements river.JobArgs.
func (pruneArgs) Kind() string { return "prune" }

// InsertOpts implements river.JobArgsWithInsertOpts. The next round is the next attempt.
func (pruneArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queuePrune, MaxAttempts: 1}
}

// pruneWorker deletes what is kept no longer: of the control tables by retention.exports and retention.quarantine, of the history by
// retention.history, and what is of no use for long in any case.
type pruneWorker struct {
	river.WorkerDefaults[pruneArgs]
	engine *Engine
}

// Timeout implements river.Worker: the first round with a retention.history builds indexes.
func (*pruneWorker) Timeout(*river.Job[pruneArgs]) time.Duration { return publishTimeout }

// Work implements river.Worker.
func (w *pruneWorker) Work(ctx context.Context, _ *river.Job[pruneArgs]) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-w.engine.draining: // whatever a stop interrupts is undone, and done again
			cancel()
		case <-ctx.Done():
		}
	})
	w.engine.prune(ctx)
	return nil
}

// prune is one round. What fails is tried again in the next one.
func (e *Engine) prune(ctx context.Context) {
	rows := make(map[string]int64)
	count := func(table string, n int64) {
		if n > 0 {
			rows[table] += n
			e.observer.Pruned(table, n)
		}
	}
	var failed []error
	for _, p := range []struct {
		table string
		prune func(context.Context, time.Duration) (int64, error)
		keep  time.Duration
	}{
		{store.PrunedTick, e.store.PruneTicks, tickRetention},
		{store.PrunedNotification, e.store.PruneNotifications, notifyRetention},
		{store.PrunedIncident, e.store.PruneIncidents, notifyRetention},
		{store.PrunedSettings, e.store.PruneSettings, settingsRetention},
	} {
		n, err := p.prune(ctx, p.keep)
		count(p.table, n)
		failed = append(failed, err)
	}
	began := time.Now()
	complete, err := e.store.Prune(ctx, store.PruneOptions{
		Retention: e.tuning.Load().Retention, Pruned: count, Proceed: func() bool { return time.Since(began) < pruneRound },
	})
	if len(rows) > 0 {
		attrs := []slog.Attr{slog.Bool("complete", complete)}
		for _, table := range slices.Sorted(maps.Keys(rows)) {
			attrs = append(attrs, slog.Int64(table, rows[table]))
		}
		e.logger.LogAttrs(ctx, slog.LevelInfo, "pruned what is kept no longer", attrs...)
	}
	if err := errors.Join(append(failed, err)...); err != nil && ctx.Err() == nil {
		e.observer.PruneFailed()
		_, safe := describe(err)
		e.logger.WarnContext(ctx, "pruning failed: the next round tries again", "error", safe)
	}
}
