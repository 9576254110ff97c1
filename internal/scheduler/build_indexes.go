package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/store"
)

// buildIndexesArgs ask for the indexes of database.indexes that a payer's tables lack.
type buildIndexesArgs struct {
	Payer string `json:"payer"`
}

// Kind implements river.JobArgs.
func (buildIndexesArgs) Kind() string { return "build_indexes" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (buildIndexesArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: indexAttempts}
}

const (
	indexAttempts = 5
	// indexPause is how long a job waits for another that builds the same payer's indexes.
	indexPause = 30 * time.Second
)

// buildIndexesWorker builds indexes while readers and further exports go on. No export waits for it, and none fails by it.
type buildIndexesWorker struct {
	river.WorkerDefaults[buildIndexesArgs]
	engine *Engine
}

// Timeout implements river.Worker.
func (*buildIndexesWorker) Timeout(*river.Job[buildIndexesArgs]) time.Duration { return publishTimeout }

// Work implements river.Worker.
func (w *buildIndexesWorker) Work(ctx context.Context, job *river.Job[buildIndexesArgs]) error {
	e, payer := w.engine, job.Args.Payer
	err := e.BuildIndexes(ctx, payer, func(store.BuiltIndex) {})
	if errors.Is(err, store.ErrLocked) {
		return river.JobSnooze(indexPause) // a publish may have brought tables that it does not know of
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	failure, safe := describe(err)
	e.observer.JobFailed(payer, job.Kind, failure.Code)
	log := e.logger.With("payer", payer, "job", job.Kind, "code", failure.Code, "error", safe)
	if job.Attempt < job.MaxAttempts {
		log.WarnContext(ctx, "indexes were not built, will be tried again", "attempt", job.Attempt)
	} else {
		log.ErrorContext(ctx, "indexes were not built: look at database.indexes; the next publish, or 'ingestd indexes build', tries again")
	}
	return errors.New(safe)
}

// BuildIndexes builds the indexes of the configuration that a payer's tables lack, and reports each one. The error is store.ErrLocked
// while another job builds the same payer's.
func (e *Engine) BuildIndexes(ctx context.Context, payer string, report func(store.BuiltIndex)) error {
	lease, err := e.store.LockIndexes(ctx, payer)
	if err != nil {
		return err
	}
	defer lease.Release(ctx)
	return e.store.BuildIndexes(ctx, lease, payer, e.tuning.Load().Indexes, func(b store.BuiltIndex) {
		e.logger.InfoContext(ctx, "index built", "payer", payer, "index", b.Index, "table", b.Table, "seconds", b.Took.Seconds())
		report(b)
	})
}

// buildIndexesTx enqueues the building of indexes where there are any to build. It is work for the daemons, also after a run in the
// foreground, which nobody wants to wait for indexes.
func (e *Engine) buildIndexesTx(ctx context.Context, tx pgx.Tx, payer string) error {
	if len(e.tuning.Load().Indexes) == 0 {
		return nil
	}
	return e.insertTx(ctx, tx, buildIndexesArgs{Payer: payer}, queueBulk)
}
