package store

import (
	"context"
	"fmt"
	"time"
)

func (p *publisher) publishType(ctx context.Context, resourceType string) error {
	e := &p.export
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	live, err := p.store.hasPartition(ctx, p.tx, table, e.Payer)
	if err != nil {
		return err
	}
	var inserted, updated int64
	if err := p.noteNewcomers(ctx, resourceType, table, live); err != nil {
		return err
	}
	if live {
		if err := p.replaceAttachments(ctx, resourceType, table); err != nil {
			return err
		}
		inserted, updated, err = p.merge(ctx, table)
	} else {
		inserted, err = p.attach(ctx, resourceType, table)
	}
	if err != nil {
		return err
	}
	e.Inserted += inserted
	e.Updated += updated
	var staged int64
	err = p.tx.QueryRow(ctx, `UPDATE ingest.export_type SET inserted = $3, updated = $4
		WHERE export_id = $1 AND resource_type = $2 RETURNING staged`, e.ID, resourceType, inserted, updated).Scan(&staged)
	if err != nil {
		return fmt.Errorf("note the rows: %w", err)
	}
	if inserted+updated != staged { // they were counted when they were prepared, which may be long ago
		return &UnbalancedError{Of: "rows", Lines: staged, Accounted: inserted + updated}
	}
	return nil
}

// attach makes the staging table the payer's partition: no row is copied, and nobody is kept waiting but another attach.
func (p *publisher) attach(ctx context.Context, resourceType, table string) (int64, error) {
	e := &p.export
	var rows int64
	var now time.Time
	err := p.tx.QueryRow(ctx, `SELECT staged, now() FROM ingest.export_type WHERE export_id = $1 AND resource_type = $2`,
		e.ID, resourceType).Scan(&rows, &now)
	if err != nil {
		return 0, fmt.Errorf("read the number of rows: %w", err)
	}
	name := partition(table, e.Payer)
	stage, part := quote(stageSchema, stageName(e.ID, table)), quote(p.store.schema, name)
	for _, sql := range []string{
		fmt.Sprintf(`ALTER TABLE %s DROP COLUMN file, DROP COLUMN line,
			ADD COLUMN export_id bigint NOT NULL DEFAULT %d,
			ADD COLUMN ingested_at timestamptz NOT NULL DEFAULT %s`, stage, e.ID, literal(now.Format(time.RFC3339Nano))),
		fmt.Sprintf(`ALTER TABLE %s ALTER COLUMN payer DROP DEFAULT, ALTER COLUMN export_id DROP DEFAULT,
			ALTER COLUMN ingested_at SET DEFAULT now()`, stage),
		fmt.Sprintf(`ALTER TABLE %s RENAME TO %s`, stage, quote(name)),
		fmt.Sprintf(`ALTER TABLE %s SET SCHEMA %s`, quote(stageSchema, name), quote(p.store.schema)),
		fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%s)`,
			quote(p.store.schema, table), part, literal(e.Payer)),
		fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT payer_is`, part),
	} {
		if _, err := p.tx.Exec(ctx, sql); err != nil {
			return 0, fmt.Errorf("attach the partition: %w", err)
		}
	}
	return rows, nil
}

// merge writes the staged rows, which all differ from what is published, into the payer's partition.
func (p *publisher) merge(ctx context.Context, table string) (inserted, updated int64, err error) {
	e := &p.export
	live, stage := quote(p.store.schema, partition(table, e.Payer)), quote(stageSchema, stageName(e.ID, table))
	if p.options.History == "all" {
		_, err := p.tx.Exec(ctx, fmt.Sprintf(`
			INSERT INTO %s (payer, id, version_id, last_updated, patient_id, resource, digest, export_id, valid_from, valid_to,
				ended_by, reason)
			SELECT live.payer, live.id, live.version_id, live.last_updated, live.patient_id, live.resource, live.digest,
				live.export_id, live.ingested_at, now(), $2, 'updated'
			FROM %s AS live JOIN %s AS stage ON stage.id = live.id
			WHERE live.payer = $1`, quote(p.store.history, table), live, stage), e.Payer, e.ID)
		if err != nil {
			return 0, 0, fmt.Errorf("keep the versions that are replaced: %w", err)
		}
	}
	err = p.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH merged AS (
			INSERT INTO %s AS live (payer, id, version_id, last_updated, patient_id, resource, digest, export_id, ingested_at)
			SELECT $1, id, version_id, last_updated, patient_id, resource, digest, $2, now() FROM %s
			ON CONFLICT (payer, id) DO UPDATE SET version_id = excluded.version_id, last_updated = excluded.last_updated,
				patient_id = excluded.patient_id, resource = excluded.resource, digest = excluded.digest,
				export_id = excluded.export_id, ingested_at = excluded.ingested_at
			RETURNING xmax = 0 AS inserted
		)
		SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM merged`, live, stage),
		e.Payer, e.ID).Scan(&inserted, &updated)
	if err != nil {
		return 0, 0, fmt.Errorf("merge the changed rows: %w", err)
	}
	return inserted, updated, nil
}
