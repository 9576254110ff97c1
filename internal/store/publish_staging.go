package store

import (
	"context"
	"fmt"
	"time"

	"ingestd/internal/fhir"
)

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
