package store

import (
	"context"
	"fmt"
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
