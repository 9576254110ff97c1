package scheduler

import (
	"context"
	"time"

	"ingestd/internal/export"
	"ingestd/internal/outbound"
)

const (
	// jobTimeout bounds every job that does not set its own bound: more than outbound lets a payer be silent, so that it is the payer's
	// silence that ends, with its reason, and not the job.
	jobTimeout = 3 * time.Minute
	// noteShare is what part of a job's time is kept for noting how it ended.
	noteShare = 9
)

// asking is ctx for the requests of a job to its payer: it ends some time before the job does. A job that is cut off together with its
// request can note nothing: it would be tried for ever, and nobody be told why.
func (e *Engine) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-e.options.JobTimeout/noteShare))
}

// silence makes the end of the time for asking a failure of the payer, which has not answered; all other failures are what they are.
func silence(ctx, asking context.Context, phase export.Phase, err error) error {
	if err == nil || isA[*export.Error](err) || asking.Err() == nil || ctx.Err() != nil {
		return err
	}
	failure := &export.Error{
		Phase: phase, Code: outbound.CodeTimeout, Action: export.ActionRetry, Err: err,
		Detail: "the payer was asked, and has not answered to the end in the time that a job has for it",
	}
	if phase == export.PhaseKickOff {
		failure.Code, failure.MaybeStarted = export.CodeUnanswered, true
	}
	return failure
}
