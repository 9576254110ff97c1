package scheduler

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// scheduledExport decides what a tick asks for. Types that the configuration has gained since the last export are asked for alone
// and in full, and all others afterwards as ever, so that a new type does not cost a payer's whole data once more.
func (e *Engine) scheduledExport(ctx context.Context, p config.Payer, full bool) (store.NewExport, error) {
	n, err := e.newExport(ctx, p, RunOptions{Full: full})
	n.Trigger = store.TriggerSchedule
	x := p.Export
	if err != nil || full || n.Kind != store.KindFull || x.Since == "never" {
		return n, err
	}
	known, otherSeries, err := e.store.PublishedTypes(ctx, p.Name, n.Series, n.Types)
	if err != nil {
		return n, err
	}
	log := e.logger.With("payer", p.Name)
	switch {
	case len(known) == 0 && otherSeries:
		log.InfoContext(ctx, "the next export is a full one: level, group, filters, elements or patients are others than in the last one")
	case len(n.Types) == 0, len(known) == 0, len(known) == len(n.Types), len(x.TypeFilters)+len(x.Elements)+len(x.Patients) > 0: // which may name the other types
	default:
		n.Types = slices.DeleteFunc(n.Types, func(resourceType string) bool { return slices.Contains(known, resourceType) })
		n.Trigger = store.TriggerNewTypes
		log.InfoContext(ctx, "types are new: they are asked for alone, in full, and then the others as ever", "types", n.Types)
	}
	return n, nil
}

// followUpTx starts the export of the other types, in the transaction that publishes the new ones. It reports whether it did.
func (e *Engine) followUpTx(ctx context.Context, tx pgx.Tx, p config.Payer, x store.Export) (bool, error) {
	if x.Trigger != store.TriggerNewTypes {
		return false, nil
	}
	others := p
	others.Export.Types = slices.DeleteFunc(sortedTypes(p), func(resourceType string) bool { return slices.Contains(x.Types, resourceType) })
	if len(others.Export.Types) == 0 {
		return false, nil // the configuration has changed again
	}
	n, err := e.newExport(ctx, others, RunOptions{})
	if err != nil {
		return false, err
	}
	n.Trigger, n.Settings = store.TriggerSchedule, settingsOf(p)
	_, err = e.beginTx(ctx, tx, n)
	if errors.Is(err, store.ErrExportRunning) {
		return false, nil
	}
	return err == nil, err
}
