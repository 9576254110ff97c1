package scheduler

import (
	"context"

	"github.com/riverqueue/river"

	"ingestd/internal/store"
)

// tellTrouble stores why a job is put off or tried again, for 'ingestd status', which shows no log. The job does not depend on it.
func tellTrouble[T river.JobArgs](ctx context.Context, e *Engine, job *river.Job[T], x store.Export, failure store.Failure, safe string) {
	if failure.Code == codeClientBusy || failure.Code == codeElsewhere {
		return // nobody's failure: see waitsFor
	}
	file := -1
	if load, ok := any(job.Args).(loadFileArgs); ok {
		file = load.File
	}
	failure.Text = safe
	if err := e.store.NoteTrouble(ctx, x.ID, x.Generation, file, failure); err != nil {
		e.logger.WarnContext(ctx, "cannot note why the export tries again", "payer", x.Payer, "export_id", x.ID, "error", err)
	}
}

// endTrouble forgets a trouble of a file that goes on, where one was told when the job began.
func (e *Engine) endTrouble(ctx context.Context, x store.Export, file int) {
	if x.Trouble.At.IsZero() || x.Trouble.File != file {
		return
	}
	if err := e.store.EndTrouble(ctx, x.ID, file); err != nil {
		e.logger.WarnContext(ctx, "cannot note that a file goes on", "payer", x.Payer, "export_id", x.ID, "error", err)
	}
}
