package scheduler

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/export"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// startExportArgs ask for the kick-off of a recorded export.
type startExportArgs struct {
	ExportID   int64 `json:"export_id"`
	Generation int   `json:"generation"`
}

// Kind implements river.JobArgs.
func (startExportArgs) Kind() string { return "start_export" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (startExportArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: startAttempts}
}

// startExportWorker sends the kick-off request and stores the status URL together with the first poll
// (Bulk Data 3.0, Kick-off Request).
type startExportWorker struct {
	river.WorkerDefaults[startExportArgs]
	engine *Engine
}

// Work implements river.Worker.
func (w *startExportWorker) Work(ctx context.Context, job *river.Job[startExportArgs]) error {
	e := w.engine
	return e.withExport(ctx, job.Args.ExportID, job.Args.Generation, store.StateStarting, func(ctx context.Context, x store.Export) error {
		note := func(wait time.Duration) error { return e.store.NoteJobDue(ctx, x.ID, x.Generation, wait) }
		p, err := e.payerOf(ctx, x)
		if err != nil {
			return settle(ctx, e, job, x, err, note)
		}
		if e.mustWait(x, p.Config) {
			return finish(ctx, e, job, func(tx pgx.Tx) error { return e.store.PutBackTx(ctx, tx, x.ID, x.Generation) })
		}
		if x.Restarts > 0 { // what the lost job brought is void
			err := e.store.VoidStaging(ctx, x.ID, x.Generation)
			if store.IsStale(err) {
				return nil // taken over: what is staged is of another kick-off
			}
			if err != nil {
				return settle(ctx, e, job, x, err, note)
			}
		}
		if err := e.endOldJobs(ctx, x, p.Client); err != nil { // a payer that allows one job would refuse the next
			return settle(ctx, e, job, x, err, note)
		}
		if err := e.awaitTurn(ctx, x, p.Config.Limits.PollMax); err != nil {
			return settle(ctx, e, job, x, err, note)
		}
		kickOff, err := e.kickOff(ctx, x, p)
		if store.IsStale(err) {
			return nil
		}
		if limit := p.Config.Export.Timeout; err != nil && limit > 0 && time.Since(later(later(x.CreatedAt, x.AdmittedAt), x.KickedOffAt)) > limit {
			err = finalError{err} // a payer that is busy for ever
		}
		e.journalKickOff(x, p.Client, err)
		if err != nil {
			return settle(ctx, e, job, x, err, note)
		}
		e.logger.InfoContext(ctx, "export accepted", "payer", x.Payer, "export_id", x.ID, "kind", x.Kind, "since", x.Since)
		return w.keep(ctx, job, x, p, kickOff)
	})
}

// keepPause is between two attempts to store an accepted kick-off.
const keepPause = time.Second

// keep stores the status URL together with the first poll. The payer is at work by now, so that a Postgres that is away is
// waited for as long as the job may; and what cannot be kept is ended at the payer, rather than left to run unseen.
func (w *startExportWorker) keep(ctx context.Context, job *river.Job[startExportArgs], x store.Export, p Payer,
	kickOff kickedOff,
) error {
	e := w.engine
	for {
		kept := false
		err := finish(ctx, e, job, func(tx pgx.Tx) error {
			if err := e.keepTx(ctx, tx, x, kickOff); err != nil {
				return err
			}
			if err := e.acceptedTx(ctx, tx, p.Config, x, kickOff.KickOff); err != nil {
				return err
			}
			kept = true
			err := e.insertTx(ctx, tx, pollExportArgs{ExportID: x.ID, Generation: x.Generation}, x.Queue)
			failpoint.Here(failpoint.KickOffCommit)
			return err
		})
		if err == nil && kept {
			failpoint.Here(failpoint.KickOffCommitted)
			return nil
		}
		if err != nil {
			select {
			case <-time.After(keepPause):
				continue
			case <-ctx.Done():
			}
		}
		e.abandon(ctx, x, p.Client, kickOff.StatusURL)
		return err
	}
}

func (e *Engine) keepTx(ctx context.Context, tx pgx.Tx, x store.Export, kickOff kickedOff) error {
	if kickOff.adopted {
		return e.store.AdoptTx(ctx, tx, x.ID, x.Generation, kickOff.StatusURL)
	}
	return e.store.KickedOffTx(ctx, tx, x.ID, x.Generation, kickOff.StatusURL, kickOff.Date, kickOff.covers)
}

// abandonTimeout bounds the DELETE of an export that could not be kept.
const abandonTimeout = 10 * time.Second

// abandon ends an export at the payer that this process was the only one to know of.
func (e *Engine) abandon(ctx context.Context, x store.Export, client *export.Client, statusURL string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	log := e.logger.With("payer", x.Payer, "export_id", x.ID)
	now, err := e.store.Export(ctx, x.ID)
	if err == nil && now.StatusURL == statusURL {
		return // a commit whose answer was lost
	}
	if err == nil {
		err = client.Delete(ctx, statusURL)
	}
	if err != nil {
		_, safe := describe(err)
		log.WarnContext(ctx, "an accepted kick-off came to nothing, and runs on at the payer", "error", safe)
		return
	}
	log.WarnContext(ctx, "an accepted kick-off came too late, and was ended at the payer")
}

// withExport calls f with an export that a job of this generation is to bring on from this state. A job that has been
// replaced, or that comes too late, has nothing to do. The reaper lets the job be until its timeout has passed.
func (e *Engine) withExport(ctx context.Context, id int64, generation int, state store.State,
	f func(context.Context, store.Export) error,
) error {
	x, err := e.store.BeginJob(ctx, id, generation, state, e.options.JobTimeout)
	if store.IsStale(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, span := e.jobSpan(ctx, x)
	defer span.End()
	return f(ctx, x)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
