package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/export"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// kickedOff is the answer to a kick-off: a new export, or one of ours that the payer runs already.
type kickedOff struct {
	export.KickOff

	adopted bool
	covers  func(resourceType string) bool // what the authorization covers once it was accepted
}

// reusedWait is how long a payer is left alone that answered a kick-off with an old job, where limits.poll_max does not say:
// HAPI does so, within a window that its operator sets.
const reusedWait = time.Minute

// kickOff asks the payer for the export. It is not idempotent: the answer to an earlier attempt may have been lost, by a broken
// connection or by our own death, and the payer be at work. Where it then refuses because of a running export that nobody
// here knows, that one is gone on with (protocol.md KICK-7); where it is an old one of ours, that one is ended (CLN-2). An
// answer that names the job of an export that is over is no new export (KICK-6).
func (e *Engine) kickOff(ctx context.Context, x store.Export, p Payer) (kickedOff, error) {
	client := p.Client
	asking, cancel := e.asking(ctx)
	defer cancel()
	covers, err := granted(asking, p, x)
	if err != nil {
		return kickedOff{}, err
	}
	inDoubt, err := e.store.BeginKickOff(ctx, x.ID, x.Generation, covers)
	if err != nil {
		return kickedOff{}, err
	}
	failpoint.Here(failpoint.KickOffNoted)
	answer, err := client.KickOff(asking, requestOf(x))
	err = silence(ctx, asking, export.PhaseKickOff, err)
	if err == nil {
		failpoint.Here(failpoint.KickOffAccepted)
		old, lookUp := e.store.ExportAt(ctx, x.Payer, answer.StatusURL, x.ID)
		if lookUp != nil { // unknown, which is as it should be; or Postgres is away, and what was accepted is kept all the same
			return kickedOff{KickOff: answer, covers: coversNow(asking, p, x)}, nil
		}
		e.endOld(ctx, x, client, answer.StatusURL, old)
		if err := e.store.EndKickOff(ctx, x.ID, x.Generation, inDoubt); err != nil {
			return kickedOff{}, err
		}
		return kickedOff{}, &export.Error{
			Phase: export.PhaseKickOff, Code: codeJobReused, Action: export.ActionWait,
			RetryAfter: orDefault(p.Config.Limits.PollMax, reusedWait),
			Detail:     "the payer answered with the job of an earlier export, which is over",
			Hint:       "some servers do so for a repeated request, until their cache forgets it; the kick-off is tried again",
		}
	}
	refused, ok := errors.AsType[*export.Error](err)
	if !ok || !refused.MaybeStarted {
		if err := e.store.EndKickOff(ctx, x.ID, x.Generation, inDoubt); err != nil {
			return kickedOff{}, err
		}
	}
	if !ok {
		return kickedOff{}, err
	}
	unknown := e.settleRunning(ctx, x, client, refused.Running)
	if !inDoubt || len(unknown) != 1 {
		return kickedOff{}, err
	}
	e.logger.WarnContext(ctx, "going on with the export that the payer runs already: the answer to its kick-off was lost",
		"payer", x.Payer, "export_id", x.ID)
	return kickedOff{KickOff: export.KickOff{StatusURL: unknown[0]}, adopted: true}, nil
}

// settleRunning ends those of the running exports that are ours and over, and returns those that nobody here knows.
func (e *Engine) settleRunning(ctx context.Context, x store.Export, client *export.Client, running []string) (unknown []string) {
	for _, statusURL := range running {
		old, err := e.store.ExportAt(ctx, x.Payer, statusURL, x.ID)
		switch {
		case errors.Is(err, store.ErrNoExport):
			unknown = append(unknown, statusURL)
		case err == nil && !old.State.Active():
			e.endOld(ctx, x, client, statusURL, old)
		}
	}
	return unknown
}

// endOld ends at the payer what is over here: its DELETE was lost, or not understood then.
func (e *Engine) endOld(ctx context.Context, x store.Export, client *export.Client, statusURL string, old store.Export) {
	log := e.logger.With("payer", x.Payer, "export_id", x.ID, "old_export_id", old.ID)
	asking, cancel := e.asking(ctx)
	defer cancel()
	if err := client.Delete(asking, statusURL); err != nil {
		_, safe := describe(err)
		log.WarnContext(ctx, "an export that is over stands in the way at the payer, and cannot be ended", "error", safe)
		return
	}
	log.InfoContext(ctx, "ended an export at the payer that was over here")
}

// checkAdopted looks whether the manifest of an adopted export is of what we asked for. It reports false where it is not, and
// has then started the export again; where the payer does not say, the data is loaded, but nothing is concluded
// from it: neither up to when it is complete, nor what is gone.
func checkAdopted[T river.JobArgs](ctx context.Context, e *Engine, job *river.Job[T], x store.Export, client *export.Client,
	status *export.Status,
) (bool, error) {
	if !x.Adopted {
		return true, nil
	}
	same, known := client.Asked(requestOf(x), status.Manifest.Request)
	switch {
	case !known:
		status.Manifest.Time = time.Time{}
		return true, nil
	case same:
		return true, nil
	}
	e.logger.WarnContext(ctx, "the running export that was adopted is of another request: asking for a new one",
		"payer", x.Payer, "export_id", x.ID)
	return false, finish(ctx, e, job, func(tx pgx.Tx) error {
		if err := e.store.DisownTx(ctx, tx, x.ID, x.Generation); err != nil {
			return err
		}
		return e.insertTx(ctx, tx, startExportArgs{ExportID: x.ID, Generation: x.Generation + 1}, x.Queue)
	})
}

// requestOf is what an export asks the payer for, beside its configuration.
func requestOf(x store.Export) export.KickOffRequest {
	r := export.KickOffRequest{Since: x.Since, Types: x.Types}
	if len(x.Patients) > 0 {
		r.Patients = x.Patients
	}
	return r
}
