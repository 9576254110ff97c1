package scheduler

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

// acceptedTx records what else the payer's acceptance says, beside the status URL: that it tells the state of the export apart,
// and that it refused the _since without which the export goes on. That export is a full one, as certainly as one that never
// had a _since (protocol.md KICK-9).
func (e *Engine) acceptedTx(ctx context.Context, tx pgx.Tx, p config.Payer, x store.Export, kickOff export.KickOff) error {
	if kickOff.SeparateStatus != x.SeparateStatus {
		if err := e.store.SeparateStatusTx(ctx, tx, x.ID, x.Generation, kickOff.SeparateStatus); err != nil {
			return err
		}
	}
	if x.Kind != store.KindIncremental || !slices.Contains(kickOff.Without, "_since") {
		return nil
	}
	e.logger.WarnContext(ctx, "the payer refuses _since: the export is a full one", "payer", x.Payer, "export_id", x.ID)
	return e.store.DeclareTx(ctx, tx, x.ID, x.Generation, store.Declaration{
		Kind: store.KindFull, RemovesGhosts: p.Load.RemoveGhosts && holdsEverything(p),
	})
}

// reconsider reads in the outcome files what a payer that handles requests leniently has ignored, and records what the export
// is because of that, before watermark and ghosts follow from it (protocol.md KICK-10). It returns the export as it is
// now; whole is false where something that was asked for may be missing, so that the watermark has to stay.
//
// Without _since everything came: the export is a full one. It removes no ghosts nevertheless, because all that says so
// are words. Without _type, types may be missing; and where no _since does not mean everything, anything may be. That filters or
// elements were ignored brought more than was asked for, which harms nothing (INC-8).
func (e *Engine) reconsider(ctx context.Context, p config.Payer, x store.Export) (now store.Export, whole bool, err error) {
	if p.Export.Handling != "lenient" {
		return x, true, nil
	}
	texts, err := e.store.OutcomesNaming(ctx, x.ID, export.ParameterNames())
	if err != nil {
		return x, false, err
	}
	var ignored []string
	for _, text := range texts {
		ignored = append(ignored, export.IgnoredParameters(text)...)
	}
	slices.Sort(ignored)
	ignored = slices.Compact(ignored)
	if len(ignored) == 0 {
		return x, true, nil
	}
	e.logger.WarnContext(ctx, "the payer ignored parameters of the export", "payer", x.Payer, "export_id", x.ID, "parameters", ignored)
	whole, now = true, x
	if slices.Contains(ignored, "_since") {
		if x.Kind == store.KindIncremental {
			now.Kind, now.Since = store.KindFull, ""
		}
		whole = p.Export.FullSince == ""
		now.RemovesGhosts = false
	}
	if slices.Contains(ignored, "_type") {
		whole, now.RemovesGhosts = false, false
	}
	if now.Kind == x.Kind && now.RemovesGhosts == x.RemovesGhosts {
		return now, whole, nil
	}
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		return e.store.DeclareTx(ctx, tx, x.ID, x.Generation, store.Declaration{
			Kind: now.Kind, Since: now.Since, RemovesGhosts: now.RemovesGhosts,
		})
	})
	return now, whole, err
}

// poll asks for the status of an export, in the way that the payer answers.
func poll(ctx context.Context, client *export.Client, x store.Export) (export.Status, error) {
	if x.SeparateStatus {
		return client.PollSeparate(ctx, x.StatusURL)
	}
	return client.Poll(ctx, x.StatusURL)
}
