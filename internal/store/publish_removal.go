package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// applyDeletions removes what the payer's deleted files name. A resource that the same export also holds stays
// (protocol.md DEL-2), and so does one that an export of a later instant brought; one that is not there is no fault.
func (p *publisher) applyDeletions(ctx context.Context, staged []string) error {
	e := &p.export
	deleted := quote(stageSchema, deletedName(e.ID))
	if exists, err := p.hasDeleted(ctx); err != nil || !exists {
		return err
	}
	rows, err := p.tx.Query(ctx, `SELECT DISTINCT resource_type FROM `+deleted)
	if err != nil {
		return fmt.Errorf("list the types of the deletions: %w", err)
	}
	named, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the types of the deletions: %w", err)
	}
	slices.Sort(named)
	for _, resourceType := range named {
		if !fhir.KnownType(resourceType) {
			continue // nothing of an unknown type was ever published
		}
		n, err := p.remove(ctx, resourceType, staged, "deleted", p.options.History != "none",
			`AND live.id IN (SELECT id FROM `+deleted+` WHERE resource_type = `+literal(resourceType)+`)
			AND NOT `+ofLaterExport("live", e.ID))
		if err != nil {
			return fmt.Errorf("delete from %s: %w", resourceType, err)
		}
		e.Deleted += n
	}
	return nil
}

// remove deletes the payer's rows of a type that the export does not hold and that the condition names, and keeps their
// last versions in the history.
func (p *publisher) remove(ctx context.Context, resourceType string, staged []string, reason string, history bool,
	condition string,
) (int64, error) {
	e := &p.export
	table, err := tableName(resourceType)
	if err != nil {
		return 0, err
	}
	exists, err := p.store.hasPartition(ctx, p.tx, table, e.Payer)
	if err != nil || !exists {
		return 0, err
	}
	if slices.Contains(staged, resourceType) {
		condition += ` AND NOT EXISTS (
			SELECT FROM (SELECT unnest(ids) AS id FROM ` + quote(stageSchema, seenName(e.ID, table)) + `) AS seen WHERE seen.id = live.id)`
	}
	deletion := fmt.Sprintf(`DELETE FROM %s AS live WHERE live.payer = $1 AND live.export_id <> $2 %s`,
		quote(p.store.schema, partition(table, e.Payer)), condition)
	if history {
		deletion = fmt.Sprintf(`
			WITH gone AS (%s RETURNING live.*)
			INSERT INTO %s (payer, id, version_id, last_updated, patient_id, resource, digest, export_id, valid_from, valid_to,
				ended_by, reason)
			SELECT payer, id, version_id, last_updated, patient_id, resource, digest, export_id, ingested_at, now(), $2, %s
			FROM gone`, deletion, quote(p.store.history, table), literal(reason))
	}
	tag, err := p.tx.Exec(ctx, deletion, e.Payer, e.ID)
	if err != nil {
		return 0, fmt.Errorf("remove rows of %s: %w", table, err)
	}
	column := map[string]string{"deleted": "deleted", "ghost": "ghosts"}[reason]
	_, err = p.tx.Exec(ctx, `
		INSERT INTO ingest.export_type (export_id, resource_type, `+column+`) VALUES ($1, $2, $3)
		ON CONFLICT (export_id, resource_type) DO UPDATE SET `+column+` = excluded.`+column,
		e.ID, resourceType, tag.RowsAffected())
	if err != nil {
		return 0, fmt.Errorf("note the removed rows: %w", err)
	}
	return tag.RowsAffected(), nil
}

// ofLaterExport is the SQL for whether a published row was written by an export of a later instant than the given one: what the payer
// said then stands, whatever a job that it kept says of the row. Where the payer does not tell the instant, no row is. Of an export that has
// been pruned the instant is not known any more: what was published after the given one's counts as later.
func ofLaterExport(table string, exportID int64) string {
	return fmt.Sprintf(`(%[3]s
		OR %[1]s.ingested_at > (SELECT least(transaction_at, manifest_at) FROM ingest.export WHERE id = %[2]d AND transaction_at IS NOT NULL)
			AND NOT EXISTS (SELECT FROM ingest.export AS wrote WHERE wrote.id = %[1]s.export_id))`, table, exportID, ofKnownLaterExport(table, exportID))
}

// ofKnownLaterExport is ofLaterExport without what has been pruned.
func ofKnownLaterExport(table string, exportID int64) string {
	return fmt.Sprintf(`%[1]s.export_id IN (
		SELECT later.id FROM ingest.export AS later JOIN ingest.export AS this ON this.payer = later.payer
		WHERE this.id = %[2]d AND this.transaction_at IS NOT NULL AND later.transaction_at IS NOT NULL AND later.state = 'published'
			AND least(later.transaction_at, later.manifest_at) > least(this.transaction_at, this.manifest_at))`, table, exportID)
}
