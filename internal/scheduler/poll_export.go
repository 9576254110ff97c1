package scheduler

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"ingestd/internal/export"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// pollExportArgs ask for the status of an accepted export.
type pollExportArgs struct {
	ExportID   int64 `json:"export_id"`
	Generation int   `json:"generation"`
}

// Kind implements river.JobArgs.
func (pollExportArgs) Kind() string { return "poll_export" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (pollExportArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: pollAttempts}
}

// pollExportWorker asks for the status until the manifest is there, and then stores its files together with the jobs that
// load the first of them (Bulk Data 3.0, Status Request). Between two polls it occupies no worker.
type pollExportWorker struct {
	river.WorkerDefaults[pollExportArgs]
	engine *Engine
}

// Work implements river.Worker.
func (w *pollExportWorker) Work(ctx context.Context, job *river.Job[pollExportArgs]) error {
	e := w.engine
	return e.withExport(ctx, job.Args.ExportID, job.Args.Generation, store.StatePolling, func(ctx context.Context, x store.Export) error {
		note := func(wait time.Duration) error { return e.store.NoteJobDue(ctx, x.ID, x.Generation, wait) }
		p, err := e.payerOf(ctx, x)
		if err != nil {
			return settle(ctx, e, job, x, err, note)
		}
		if limit := p.Config.Export.Timeout; limit > 0 && time.Since(x.KickedOffAt) > limit {
			return settle(ctx, e, job, x, &export.Error{
				Phase: export.PhaseStatus, Code: codeExportTimeout, Action: export.ActionRestart,
				Detail: fmt.Sprintf("the payer did not complete the export within export.timeout, %s", limit),
				Hint:   "ask the payer what became of the job, or raise export.timeout",
			}, note)
		}
		asking, cancel := e.asking(ctx)
		defer cancel()
		status, err := poll(asking, p.Client, x)
		err = silence(ctx, asking, export.PhaseStatus, err)
		failpoint.Here(failpoint.PollAnswered)
		e.journalStatus(x, status, err)
		if err != nil {
			return settle(ctx, e, job, x, err, note)
		}
		if !status.Complete {
			if status.Manifest != nil && loadsAhead(p, x) {
				if err := e.loadPages(ctx, x, p, status); err != nil && !store.IsStale(err) {
					return settle(ctx, e, job, x, err, note)
				}
			}
			delay := p.Client.PollDelay(status, x.Polls)
			if err := e.store.NotePoll(ctx, x.ID, x.Generation, status.Progress, status.Percent, delay); err != nil {
				if store.IsStale(err) {
					return nil
				}
				return err
			}
			failpoint.Here(failpoint.PollNoted)
			if err := e.judge(ctx, x, p.Config); err != nil && !store.IsStale(err) {
				return err
			}
			return river.JobSnooze(delay)
		}
		if ours, err := checkAdopted(ctx, e, job, x, p.Client, &status); err != nil || !ours {
			return err
		}
		e.logger.InfoContext(ctx, "export complete at the payer", "payer", x.Payer, "export_id", x.ID, "files", status.Manifest.Files())
		err = e.loadManifest(ctx, job, x, p, status)
		if isA[*export.Error](err) {
			return settle(ctx, e, job, x, err, note)
		}
		return err
	})
}
