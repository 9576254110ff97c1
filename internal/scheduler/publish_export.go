package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/config"
	"ingestd/internal/failpoint"
	"ingestd/internal/store"
)

// publishExportArgs ask for the publish of an export whose files are all staged.
type publishExportArgs struct {
	ExportID   int64 `json:"export_id"`
	Generation int   `json:"generation"`
}

// Kind implements river.JobArgs.
func (publishExportArgs) Kind() string { return "publish_export" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (publishExportArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: publishAttempts}
}

// publishExportWorker makes a staged export visible.
type publishExportWorker struct {
	river.WorkerDefaults[publishExportArgs]
	engine *Engine
}

// publishTimeout bounds a publish: indexes over 10⁹ rows take hours.
const publishTimeout = 24 * time.Hour

// Timeout implements river.Worker.
func (*publishExportWorker) Timeout(*river.Job[publishExportArgs]) time.Duration {
	return publishTimeout
}

// Work implements river.Worker.
func (w *publishExportWorker) Work(ctx context.Context, job *river.Job[publishExportArgs]) error {
	e := w.engine
	defer e.options.Busy()()
	lease, err := e.store.LockExport(ctx, job.Args.ExportID)
	if errors.Is(err, store.ErrLocked) {
		return nil // a duplicate: it is being published
	}
	if err != nil {
		return err
	}
	defer lease.Release(ctx)
	failpoint.Here(failpoint.PublishBegin)
	x, err := e.store.BeginJob(ctx, job.Args.ExportID, job.Args.Generation, store.StatePublishing, 0)
	if store.IsStale(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, span := e.span(ctx, x, spanPublish)
	defer span.End()
	note := func(wait time.Duration) error { return e.store.NoteJobDue(ctx, x.ID, x.Generation, wait) }
	p, err := e.payerOf(ctx, x)
	if err != nil {
		return settle(ctx, e, job, x, err, note)
	}
	x, whole, err := e.reconsider(ctx, p.Config, x)
	if store.IsStale(err) {
		return nil
	}
	if err != nil {
		return settle(ctx, e, job, x, err, note)
	}
	options := store.PublishOptions{
		QuarantineMaxShare: p.Config.Load.QuarantineMaxShare,
		AcceptErrors:       p.Config.Load.AcceptErrors,
		ErrorsMaxShare:     p.Config.Load.ErrorsMaxShare,
		GhostMaxShare:      p.Config.Load.GhostMaxShare,
		History:            p.Config.Load.History,
		FromBeginning:      fromBeginning(p.Config, x),
		Newcomers:          newcomers(p.Config, x),
		Partial:            !whole,
		Covers:             e.covers(ctx, p, x),
		Attachments:        attachments(p),
		Held: func(ctx context.Context, tx pgx.Tx, held *store.HeldError) error {
			return e.tellHeldTx(ctx, tx, x, held)
		},
	}
	if whole {
		if options.Watermark, err = e.nextWatermark(ctx, p.Config, x); err != nil {
			return settle(ctx, e, job, x, err, note)
		}
	}
	published, err := e.store.Publish(ctx, lease, x.ID, options, func(ctx context.Context, tx pgx.Tx) error {
		if err := e.insertTx(ctx, tx, cleanUpArgs{ExportID: x.ID}, x.Queue); err != nil {
			return err
		}
		if err := e.buildIndexesTx(ctx, tx, x.Payer); err != nil {
			return err
		}
		if err := e.nextTx(ctx, tx, x); err != nil {
			return err
		}
		if err := completeTx(ctx, tx, job); err != nil {
			return err
		}
		err := e.tellRecoveredTx(ctx, tx, x)
		failpoint.Here(failpoint.PublishCommit)
		return err
	})
	log := e.logger.With("payer", x.Payer, "export_id", x.ID)
	var held *store.HeldError
	switch {
	case store.IsStale(err):
		return nil
	case errors.As(err, &held):
		log.ErrorContext(ctx, "publish held back", "ghosts", held.Ghosts, "rows", held.Rows)
		x.State = store.StateHeld
		e.observer.ExportEnded(x.Payer, x)
		return nil
	case err != nil:
		return settle(ctx, e, job, x, err, note)
	}
	failpoint.Here(failpoint.PublishCommitted)
	log.InfoContext(ctx, "export published", "kind", x.Kind, "lines", published.Lines, "bytes", published.Bytes,
		"inserted", published.Inserted, "updated", published.Updated, "unchanged", published.Unchanged,
		"superseded", published.Superseded, "deleted", published.Deleted, "ghosts", published.Ghosts,
		"quarantined", published.Quarantined, "seconds", time.Since(x.CreatedAt).Seconds())
	if published.WantsFull {
		log.WarnContext(ctx, "types are granted that were not before: a full export is due, for what they hold already")
	}
	e.observer.ExportEnded(x.Payer, published)
	if options.Attachments != nil {
		e.warnOfAttachments(ctx, x)
	}
	if progress, err := e.store.Progress(ctx, x.ID); err == nil { // a count for a log
		e.journalEnd(published, progress.Files)
	}
	return nil
}

// nextTx starts what follows from an export, under the settings of now. Nothing follows where the payer has been removed.
func (e *Engine) nextTx(ctx context.Context, tx pgx.Tx, x store.Export) error {
	p, configured := e.roster.payer(x.Payer)
	if !configured {
		return nil
	}
	if followed, err := e.followUpTx(ctx, tx, p.Config, x); err != nil || followed {
		return err
	}
	return e.backfillTx(ctx, tx, p.Config, x)
}

// nextWatermark is where the watermark moves to when the export is published; zero where it stays. An export that asked for
// what changed since an instant, and that begins later than the data is complete, leaves a gap: it moves nothing (INC-1).
func (e *Engine) nextWatermark(ctx context.Context, p config.Payer, x store.Export) (time.Time, error) {
	if x.Kind == store.KindBackfill {
		return time.Time{}, nil // it says nothing of all others
	}
	if x.Kind == store.KindIncremental {
		complete, err := e.store.Watermark(ctx, x.Payer, x.Series, x.Types)
		if err != nil {
			return time.Time{}, err
		}
		if complete.IsZero() { // what lies before the configured beginning nobody asks for
			complete = beginning(p)
		}
		since, err := time.Parse(time.RFC3339Nano, x.Since)
		if err != nil || complete.IsZero() || since.After(complete) {
			return time.Time{}, nil //nolint:nilerr // an instant that cannot be read covers nothing
		}
	}
	return watermark(x, time.Now()), nil
}

// fromBeginning reports whether an export of what changed asked for all that is configured to be asked for.
func fromBeginning(p config.Payer, x store.Export) bool {
	first := beginning(p)
	since, err := time.Parse(time.RFC3339Nano, x.Since)
	return err == nil && !first.IsZero() && !since.After(first)
}

// watermark is up to when a payer's data is complete once the export is published. Servers exist whose transactionTime is
// when the job ended, so it is never later than the kick-off's answer, by the payer's clock or, where that said nothing, by
// ours; and never in the future, which some servers would refuse as _since. Without a readable transactionTime it stays
// where it is (protocol.md MAN-2).
func watermark(x store.Export, now time.Time) time.Time {
	at := x.TransactionAt
	if at.IsZero() {
		return at
	}
	answered := x.KickOffDate
	if answered.IsZero() {
		answered = x.KickedOffAt
	}
	for _, bound := range []time.Time{answered, now} {
		if !bound.IsZero() && bound.Before(at) {
			at = bound
		}
	}
	return at
}
