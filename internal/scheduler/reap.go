package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// reapGrace is how long a job may be overdue before the reaper looks who is at work on it.
const reapGrace = 10 * time.Second

// reapArgs ask to look for what dead instances left behind.
type reapArgs struct{}

// Kind implements river.JobArgs.
func (reapArgs) Kind() string { return "reap" }

// reapWorker enqueues again the job of each export or file that is overdue, or not cleaned up, while nobody holds its lock
// and no job of it waits. The lock of a dead instance is gone with its connection, long before River would rescue the job;
// kick-offs and polls hold none, and are known to be nobody's by the instance's heartbeat.
type reapWorker struct {
	river.WorkerDefaults[reapArgs]
	engine *Engine
}

// Work implements river.Worker.
func (w *reapWorker) Work(ctx context.Context, _ *river.Job[reapArgs]) error {
	e := w.engine
	return errors.Join(e.store.HastenOrphans(ctx, beatPatience, reapGrace), e.reap(ctx, 0), e.warnOfLate(ctx), e.tellStale(ctx))
}

// warnOfLate warns of exports whose files expire before they are loaded, while more downloads can still help.
func (e *Engine) warnOfLate(ctx context.Context) error {
	late, err := e.store.LateExports(ctx)
	for _, x := range late {
		e.logger.WarnContext(ctx, "files of an export expire before they are loaded: raise limits.downloads, or ask the payer to keep them longer",
			"payer", x.Payer, "export_id", x.ID, "files_left", x.Left, "expires_at", x.ExpiresAt, "estimated_end", x.EndsAt)
	}
	return err
}

// reap enqueues again what is overdue: of one export, or of all where only is 0.
func (e *Engine) reap(ctx context.Context, only int64) error {
	exports, files, err := e.store.Overdue(ctx, reapGrace)
	if err != nil {
		return err
	}
	queue := e.options.Queue
	// A job that waits where it will be worked is left alone. A run in the foreground works its own queue alone: what it
	// follows must not wait for a daemon that may not be there.
	alive := []string{queueControl, queueBulk}
	if queue != "" {
		alive = []string{queue}
	}
	var failed []error
	for _, o := range exports {
		if only != 0 && o.ID != only {
			continue
		}
		match := fmt.Sprintf(`{"export_id": %d, "generation": %d}`, o.ID, o.Generation)
		if !o.State.Active() {
			match = fmt.Sprintf(`{"export_id": %d}`, o.ID)
		}
		failed = append(failed, e.reclaim(ctx, jobOf(o), match, alive, func(tx pgx.Tx) (bool, error) {
			return e.store.ReclaimExportTx(ctx, tx, o, reapGrace, queue)
		}))
	}
	for _, o := range files {
		if only != 0 && o.ExportID != only {
			continue
		}
		args := loadFileArgs{ExportID: o.ExportID, File: o.Ordinal}
		match := fmt.Sprintf(`{"export_id": %d, "file": %d}`, o.ExportID, o.Ordinal)
		failed = append(failed, e.reclaim(ctx, args, match, alive, func(tx pgx.Tx) (bool, error) {
			return e.store.ReclaimFileTx(ctx, tx, o, reapGrace, queue)
		}))
	}
	return errors.Join(failed...)
}

// jobOf is the job that an export in a given state waits for, of the generation that it will have.
func jobOf(o store.OverdueExport) river.JobArgs {
	switch o.State {
	case store.StatePolling:
		return pollExportArgs{ExportID: o.ID, Generation: o.Generation + 1}
	case store.StatePublishing:
		return publishExportArgs{ExportID: o.ID, Generation: o.Generation + 1}
	case store.StatePublished, store.StateFailed, store.StateCanceled:
		return cleanUpArgs{ExportID: o.ID}
	case store.StateStarting, store.StateLoading, store.StateHeld:
	}
	return startExportArgs{ExportID: o.ID, Generation: o.Generation + 1}
}

// reclaim enqueues a job again, unless one like it waits on a queue that somebody works. A job that waits on another, and is
// overdue, waits for a process that is gone.
func (e *Engine) reclaim(ctx context.Context, args river.JobArgs, match string, alive []string,
	take func(pgx.Tx) (bool, error),
) error {
	reclaimed := false
	err := e.store.InTx(ctx, func(tx pgx.Tx) error {
		waiting, err := e.client.JobListTx(ctx, tx, river.NewJobListParams().First(1).Kinds(args.Kind()).
			Queues(alive...).
			States(rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateScheduled).
			Where("args @> @match::jsonb", river.NamedArgs{"match": match}))
		if err != nil {
			return fmt.Errorf("look for a waiting %s: %w", args.Kind(), err)
		}
		if len(waiting.Jobs) > 0 {
			return nil
		}
		taken, err := take(tx)
		if err != nil || !taken {
			return err
		}
		var of struct {
			ExportID int64 `json:"export_id"`
			File     *int  `json:"file"`
		}
		_ = json.Unmarshal([]byte(match), &of) // it is of our making
		log := e.logger.With("job", args.Kind(), "export_id", of.ExportID)
		if of.File != nil {
			log = log.With("file", *of.File)
		}
		log.WarnContext(ctx, "taken over from an instance that is gone")
		if err := e.insertTx(ctx, tx, args, e.options.Queue); err != nil {
			return err
		}
		reclaimed = true
		failpoint.Here(failpoint.ReclaimCommit)
		return nil
	})
	if reclaimed {
		failpoint.Here(failpoint.ReclaimCommitted)
	}
	return err
}
