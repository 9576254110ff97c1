package scheduler

import (
	"context"
	"slices"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

const (
	// stallHistory is how many exports of a payer a running one is compared with.
	stallHistory = 10
	// stallPatience is how long no export counts as stalled, and how long progress may stand still.
	stallPatience = 10 * time.Minute
	// stallFactor is how many times longer than the longest of its history an export may take.
	stallFactor = 3
)

// stalled judges an export that the payer has been at work on for some time, and whose progress has stood still for some of
// it: whether it takes far longer than the payer's other exports of its kind did, or, where there are none, half the time
// that it has. What decides for good is export.timeout: see pollExportWorker.
func stalled(waited, still time.Duration, history []time.Duration, timeout time.Duration) bool {
	limit := timeout / 2
	if len(history) > 0 {
		usual := slices.Max(history)
		if own := max(stallFactor*usual, usual+stallPatience); limit == 0 || own < limit {
			limit = own
		}
	}
	if limit == 0 {
		return false // nothing to judge by
	}
	return waited > max(limit, stallPatience) && still > stallPatience
}

// judge warns, once, of an export that has stalled.
func (e *Engine) judge(ctx context.Context, x store.Export, p config.Payer) error {
	waited := time.Since(x.KickedOffAt)
	if !x.StalledAt.IsZero() || waited < stallPatience {
		return nil
	}
	history, err := e.store.WaitsOf(ctx, x.Payer, x.Kind, stallHistory)
	if err != nil {
		return err
	}
	if !stalled(waited, time.Since(later(x.ProgressAt, x.KickedOffAt)), history, p.Export.Timeout) {
		return nil
	}
	if err := e.store.NoteStalled(ctx, x.ID, x.Generation); err != nil {
		return err
	}
	e.logger.WarnContext(ctx, "the payer takes far longer than it used to, and its progress stands still",
		"payer", x.Payer, "export_id", x.ID, "waited", waited.Round(time.Second), "exports_compared", len(history))
	return nil
}

// endOldJobs ends at the payer the jobs that were given up for a new kick-off, as far as it lets us: what is left is tried
// again when the export is cleaned up (protocol.md CLN-1, CLN-2).
func (e *Engine) endOldJobs(ctx context.Context, x store.Export, client *export.Client) error {
	if len(x.OldStatusURLs) == 0 {
		return nil
	}
	asking, cancel := e.asking(ctx)
	defer cancel()
	var left []string
	for _, statusURL := range x.OldStatusURLs {
		if err := client.Delete(asking, statusURL); err != nil {
			_, safe := describe(err)
			e.logger.WarnContext(ctx, "a job that was given up cannot be ended at the payer", "payer", x.Payer, "export_id", x.ID,
				"error", safe)
			left = append(left, statusURL)
		}
	}
	return e.store.ForgetOldJobs(ctx, x.ID, left)
}
