package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"ingestd/internal/fhir"
)

// UnbalancedError says that an export's ledger does not account for every line, or deletion, or prepared type: something was lost or
// doubled, and nothing is published.
type UnbalancedError struct {
	Of               string // what was counted; empty: lines
	Lines, Accounted int64
}

func (e *UnbalancedError) Error() string {
	return fmt.Sprintf("the ledger does not balance: %d %s were read, %d are accounted for", e.Lines, cmp.Or(e.Of, "lines"), e.Accounted)
}

// QuarantineError says that too many lines could not be loaded.
type QuarantineError struct {
	Quarantined, Lines int64
	MaxShare           float64
}

func (e *QuarantineError) Error() string {
	return fmt.Sprintf("%d of %d lines could not be loaded, more than the share of %g that load.quarantine_max_share permits",
		e.Quarantined, e.Lines, e.MaxShare)
}

// PayerErrorsError says that the payer reported that its export is not whole.
type PayerErrorsError struct{ Issues int64 }

func (e *PayerErrorsError) Error() string {
	return fmt.Sprintf("the payer reported %d issues of severity fatal or error: the export is not whole", e.Issues)
}

// HeldError says that the export was held back: it would remove more rows than the guard permits.
type HeldError struct {
	Ghosts, Rows int64
	MaxShare     float64
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("it no longer holds %d of %d resources that are published, more than the share of %g that "+
		"load.ghost_max_share permits", e.Ghosts, e.Rows, e.MaxShare)
}

// readLedger adds up the files and types, and refuses an export in which a line is unaccounted for.
func (p *publisher) readLedger(ctx context.Context) error {
	e := &p.export
	var apart, quarantinedLines, staged int64 // apart: lines that are no resources
	err := p.tx.QueryRow(ctx, `
		SELECT coalesce(sum(lines) FILTER (WHERE kind = 'output'), 0), coalesce(sum(bytes), 0), coalesce(sum(wire_bytes), 0),
			coalesce(sum(quarantined), 0), coalesce(sum(quarantined) FILTER (WHERE kind = 'output'), 0),
			coalesce(sum(outcomes + headers) FILTER (WHERE kind = 'output'), 0)
		FROM ingest.export_file WHERE export_id = $1`, e.ID).
		Scan(&e.Lines, &e.Bytes, &e.WireBytes, &e.Quarantined, &quarantinedLines, &apart)
	if err != nil {
		return fmt.Errorf("add up the files: %w", err)
	}
	err = p.tx.QueryRow(ctx, `
		SELECT coalesce(sum(staged), 0), coalesce(sum(unchanged), 0), coalesce(sum(superseded), 0)
		FROM ingest.export_type WHERE export_id = $1`, e.ID).Scan(&staged, &e.Unchanged, &e.Superseded)
	if err != nil {
		return fmt.Errorf("add up the types: %w", err)
	}
	if accounted := staged + e.Unchanged + e.Superseded + quarantinedLines + apart; accounted != e.Lines {
		return &UnbalancedError{Lines: e.Lines, Accounted: accounted}
	}
	if float64(e.Quarantined) > p.options.QuarantineMaxShare*float64(e.Lines) {
		return &QuarantineError{Quarantined: e.Quarantined, Lines: e.Lines, MaxShare: p.options.QuarantineMaxShare}
	}
	return nil
}

// checkStaging refuses an export of which staging lacks what the ledger of its lines does not show: deletions, which are no lines, and
// types that were prepared, whose lines were counted then. Without their staging tables, what they hold would be taken for ghosts.
func (p *publisher) checkStaging(ctx context.Context, staged []string) error {
	var prepared, standing, deletions, accounted int64
	err := p.tx.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE resource_type = ANY ($2)),
			(SELECT coalesce(sum(deletions), 0) FROM ingest.export_file WHERE export_id = $1)
		FROM ingest.export_type WHERE export_id = $1 AND prepared_at IS NOT NULL`, p.export.ID, orEmpty(staged)).Scan(&prepared, &standing, &deletions)
	if err != nil {
		return fmt.Errorf("count what was staged: %w", err)
	}
	if prepared != standing {
		return &UnbalancedError{Of: "types", Lines: prepared, Accounted: standing}
	}
	exists, err := p.hasDeleted(ctx)
	if err != nil {
		return err
	}
	if exists {
		if err := p.tx.QueryRow(ctx, `SELECT count(*) FROM `+quote(stageSchema, deletedName(p.export.ID))).Scan(&accounted); err != nil {
			return fmt.Errorf("count the deletions: %w", err)
		}
	}
	if accounted != deletions {
		return &UnbalancedError{Of: "deletions", Lines: deletions, Accounted: accounted}
	}
	return nil
}

// hasDeleted reports whether the staging table of the export's deletions stands.
func (p *publisher) hasDeleted(ctx context.Context) (exists bool, err error) {
	err = p.tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, quote(stageSchema, deletedName(p.export.ID))).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("look for deletions: %w", err)
	}
	return exists, nil
}

// checkDeletions holds the watermark of an export with a Bundle of deletions that could not be read: cut off, too long, no JSON. A quarantined
// resource can be loaded by a retry; what such a Bundle deletes, up to a million resources, is asked for again. Entries that say something
// else than what to delete are no reason: they would say the same again (protocol.md DEL-1).
func (p *publisher) checkDeletions(ctx context.Context) error {
	if p.export.Quarantined == 0 {
		return nil
	}
	var unread bool
	err := p.tx.QueryRow(ctx, `SELECT EXISTS (
		SELECT FROM ingest.quarantine AS line JOIN ingest.export_file AS file ON file.export_id = line.export_id AND file.ordinal = line.file
		WHERE line.export_id = $1 AND file.kind = 'deleted' AND line.reason <> $2)`, p.export.ID, fhir.ReasonMalformedEntry).Scan(&unread)
	if err != nil {
		return fmt.Errorf("look for deletions that could not be read: %w", err)
	}
	if unread {
		p.options.Watermark = time.Time{}
	}
	return nil
}

// checkOutcomes refuses an export of which the payer itself says that it is not whole (protocol.md MAN-5). Warnings are no
// such word.
func (p *publisher) checkOutcomes(ctx context.Context) error {
	var errs, fatal int64
	err := p.tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE severity = 'error'), count(*) FILTER (WHERE severity = 'fatal')
		FROM ingest.outcome WHERE export_id = $1`, p.export.ID).Scan(&errs, &fatal)
	if err != nil {
		return fmt.Errorf("count the payer's issues: %w", err)
	}
	switch {
	case errs+fatal == 0:
		return nil
	case p.options.AcceptErrors:
	case fatal > 0, float64(errs) > p.options.ErrorsMaxShare*float64(p.export.Lines):
		return &PayerErrorsError{Issues: errs + fatal}
	default:
		p.options.Watermark = time.Time{} // what the errors are about is asked for again
		p.options.Partial = true
	}
	p.export.RemovesGhosts = false // what is missing may be what the errors are about
	return nil
}
