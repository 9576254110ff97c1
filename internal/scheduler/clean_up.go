package scheduler

import (
	"context"
	"fmt"

	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"

	"ingestd/internal/export"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// cleanUpArgs ask for the end of an export that is over: at the payer, and in staging.
type cleanUpArgs struct {
	ExportID int64 `json:"export_id"`
}

// Kind implements river.JobArgs.
func (cleanUpArgs) Kind() string { return "clean_up" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (cleanUpArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: cleanUpAttempts}
}

// cleanUpWorker drops what is left of an export's staging, and tells the payer that its files are no longer needed
// (Bulk Data 3.0, Delete Request). A payer that does not understand that is no failure.
type cleanUpWorker struct {
	river.WorkerDefaults[cleanUpArgs]
	engine *Engine
}

// Work implements river.Worker.
func (w *cleanUpWorker) Work(ctx context.Context, job *river.Job[cleanUpArgs]) error {
	e, args := w.engine, job.Args
	x, err := e.store.Export(ctx, args.ExportID)
	if err != nil {
		return err
	}
	if x.State.Active() {
		return fmt.Errorf("export %d is not over", x.ID)
	}
	ctx, span := e.span(ctx, x, spanCleanUp, attribute.Int("attempt", job.Attempt))
	defer span.End()
	if err := e.admit(ctx); err != nil { // its end makes room for another
		return err
	}
	if err := e.store.NoteJobDue(ctx, x.ID, x.Generation, e.options.JobTimeout); err != nil && !store.IsStale(err) {
		return err
	}
	failpoint.Here(failpoint.CleanUpBegin)
	if err := e.store.DropStaging(ctx, x.ID); err != nil {
		return err
	}
	failpoint.Here(failpoint.CleanUpDropped)
	p, err := e.payerOf(ctx, x)
	switch {
	case isA[*ElsewhereError](err):
		if err := e.store.NoteJobDue(ctx, x.ID, x.Generation, elsewherePause); err != nil && !store.IsStale(err) {
			return err
		}
		return river.JobSnooze(elsewherePause)
	case err != nil && !isA[*UnknownPayerError](err) && job.Attempt < job.MaxAttempts:
		return err
	case err != nil:
		e.logger.WarnContext(ctx, "the payer cannot be told that the export is over: its files stay until they expire",
			"payer", x.Payer, "export_id", x.ID, "error", err)
		p.Client = nil
	default:
		if err := e.endOldJobs(ctx, x, p.Client); err != nil {
			return err
		}
	}
	if p.Client != nil && x.StatusURL != "" {
		asking, cancel := e.asking(ctx)
		err := p.Client.Delete(asking, x.StatusURL)
		cancel()
		if err := silence(ctx, asking, export.PhaseDelete, err); err != nil {
			_, safe := describe(err)
			log := e.logger.With("payer", x.Payer, "export_id", x.ID, "error", safe)
			if job.Attempt < job.MaxAttempts {
				log.InfoContext(ctx, "the payer did not take the DELETE, will be tried again")
				wait := backoffDelay(len(job.Errors))
				if err := e.store.NoteJobDue(ctx, x.ID, x.Generation, wait); err != nil && !store.IsStale(err) {
					return err
				}
				e.retries.put(job.ID, wait)
				return fmt.Errorf("delete the export at the payer: %s", safe)
			}
			log.WarnContext(ctx, "the payer did not take the DELETE: its files stay until they expire")
		}
	}
	failpoint.Here(failpoint.CleanUpDeleted)
	if err := e.store.CleanedUp(ctx, x.ID); err != nil {
		if store.IsStale(err) {
			return nil
		}
		return err
	}
	failpoint.Here(failpoint.CleanUpCommitted)
	e.endTrace(ctx, x)
	return nil
}
