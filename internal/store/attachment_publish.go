package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// attachmentTable is the table of fetched attachments, beside those of the resources. No resource type has its name.
const attachmentTable = "attachment"

// replaceAttachments lets go of the attachments of resources that are about to be replaced. It has to come before they are merged. One that
// could not be fetched this time, while the resource says the same of it as before, stays: the payer has withdrawn what was read of it once.
func (p *publisher) replaceAttachments(ctx context.Context, resourceType, table string) error {
	if _, ok := attachmentsAt[resourceType]; !ok {
		return nil
	}
	e := &p.export
	stage, live := quote(stageSchema, stageName(e.ID, table)), quote(p.store.schema, partition(table, e.Payer))
	if p.options.Attachments != nil && p.options.Attachments.Inline {
		if err := p.keepInlined(ctx, resourceType, stage, live); err != nil {
			return err
		}
	}
	stands, err := p.hasAttachments(ctx)
	if err != nil || !stands {
		return err
	}
	_, err = p.tx.Exec(ctx, fmt.Sprintf(`
		DELETE FROM %s AS a USING %s AS stage WHERE a.payer = $1 AND a.resource_type = $2 AND a.resource_id = stage.id
			AND NOT EXISTS (
				SELECT FROM ingest.attachment AS f JOIN %s AS live ON live.payer = $1 AND live.id = f.resource_id
				WHERE f.export_id = $3 AND f.resource_type = $2 AND f.resource_id = a.resource_id AND f.path = a.path AND f.state = 'failed'
					AND live.resource #> f.path = stage.resource #> f.path)`,
		quote(p.store.schema, attachmentTable), stage, live), e.Payer, resourceType, e.ID)
	if err != nil {
		return fmt.Errorf("let go of attachments: %w", err)
	}
	return nil
}

// keepInlined is what replaceAttachments keeps where attachments stand in their resources.
func (p *publisher) keepInlined(ctx context.Context, resourceType, stage, live string) error {
	e := &p.export
	rows, err := p.tx.Query(ctx, `SELECT DISTINCT path FROM ingest.attachment WHERE export_id = $1 AND resource_type = $2 AND state = 'failed'`,
		e.ID, resourceType)
	if err != nil {
		return fmt.Errorf("list the attachments that were not fetched: %w", err)
	}
	paths, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return fmt.Errorf("list the attachments that were not fetched: %w", err)
	}
	for _, path := range paths { // one by one, because a statement changes a row once
		_, err := p.tx.Exec(ctx, fmt.Sprintf(`
			UPDATE %s AS stage SET resource = jsonb_set(stage.resource, $4, live.resource #> $4)
			FROM ingest.attachment AS f, %s AS live
			WHERE f.export_id = $1 AND f.resource_type = $2 AND f.path = $4 AND f.state = 'failed' AND stage.id = f.resource_id
				AND live.payer = $3 AND live.id = stage.id AND jsonb_typeof(live.resource #> $4) = 'object'
				AND live.resource #> $4 ? 'data' AND (live.resource #> $4) - 'data' = stage.resource #> $4`, stage, live),
			e.ID, resourceType, e.Payer, path)
		if err != nil {
			return fmt.Errorf("keep the attachments in %s: %w", resourceType, err)
		}
	}
	return nil
}

// hasAttachments reports whether the table of attachments stands.
func (p *publisher) hasAttachments(ctx context.Context) (stands bool, err error) {
	err = p.tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, quote(p.store.schema, attachmentTable)).Scan(&stands)
	if err != nil {
		return false, fmt.Errorf("look for the table of attachments: %w", err)
	}
	return stands, nil
}

// publishAttachments brings the table of attachments in line with the resources: those of resources that are gone leave it; what was
// fetched for this export takes the place of what replaceAttachments let go of.
func (p *publisher) publishAttachments(ctx context.Context) error {
	e := &p.export
	name := quote(p.store.schema, attachmentTable)
	stands, err := p.hasAttachments(ctx)
	if err != nil {
		return err
	}
	if !stands && (p.options.Attachments == nil || p.options.Attachments.Inline) {
		return p.forgetContents(ctx)
	}
	if !stands {
		if err := p.store.ensureAttachmentTable(ctx, p.tx); err != nil {
			return err
		}
	}
	for _, resourceType := range slices.Sorted(maps.Keys(attachmentsAt)) {
		table, err := tableName(resourceType)
		if err != nil {
			return err
		}
		live, err := p.store.hasPartition(ctx, p.tx, table, e.Payer)
		if err != nil {
			return err
		}
		if !live {
			continue
		}
		_, err = p.tx.Exec(ctx, fmt.Sprintf(`DELETE FROM %s AS a WHERE a.payer = $1 AND a.resource_type = $2
			AND NOT EXISTS (SELECT FROM %s AS r WHERE r.payer = $1 AND r.id = a.resource_id)`,
			name, quote(p.store.schema, partition(table, e.Payer))), e.Payer, resourceType)
		if err != nil {
			return fmt.Errorf("remove attachments of %s: %w", resourceType, err)
		}
	}
	if p.options.Attachments != nil && !p.options.Attachments.Inline {
		_, err := p.tx.Exec(ctx, fmt.Sprintf(`
			INSERT INTO %s (payer, resource_type, resource_id, path, content_type, content, export_id)
			SELECT $1, resource_type, resource_id, path, coalesce(nullif(content_type, ''), fetched_type), content, $2
			FROM ingest.attachment WHERE export_id = $2 AND state = 'fetched'`, name), e.Payer, e.ID)
		if err != nil {
			return fmt.Errorf("publish the attachments: %w", err)
		}
	}
	return p.forgetContents(ctx)
}

// forgetContents lets go of what was fetched: it is published, and ingest.attachment keeps what became of each.
func (p *publisher) forgetContents(ctx context.Context) error {
	_, err := p.tx.Exec(ctx, `UPDATE ingest.attachment SET content = NULL, state = 'published'
		WHERE export_id = $1 AND state = 'fetched'`, p.export.ID)
	if err != nil {
		return fmt.Errorf("let go of the fetched attachments: %w", err)
	}
	return nil
}

// ensureAttachmentTable makes the table of attachments. Content is not compressed: most of it is already.
func (s *Store) ensureAttachmentTable(ctx context.Context, tx pgx.Tx) error {
	if err := lockTx(ctx, tx, tableKey(attachmentTable)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS %[1]s (
			payer         text   NOT NULL,
			resource_type text   NOT NULL,
			resource_id   text   NOT NULL,
			path          text[] NOT NULL,
			content_type  text,
			content       bytea  NOT NULL,
			export_id     bigint NOT NULL,
			PRIMARY KEY (payer, resource_type, resource_id, path)
		);
		ALTER TABLE %[1]s ALTER COLUMN content SET STORAGE EXTERNAL;
		COMMENT ON TABLE %[1]s IS 'Content that resources refer to by URL, fetched and published with them.';
		COMMENT ON COLUMN %[1]s.path IS 'Where in the resource the Attachment stands: resource #> path.';
		COMMENT ON COLUMN %[1]s.content_type IS 'Attachment.contentType, or where there is none, what the server said.';
		COMMENT ON COLUMN %[1]s.export_id IS 'The export (ingest.export) that fetched it.'`, quote(s.schema, attachmentTable)))
	if err != nil {
		return fmt.Errorf("make the table of attachments: %w", err)
	}
	return nil
}

// Attachments counts what became of the attachments of an export.
type Attachments struct {
	Fetched int64 `json:"fetched"`
	Failed  int64 `json:"failed"`
	Pending int64 `json:"pending"`
	Bytes   int64 `json:"bytes"`
}

// Attachments returns what became of the attachments of an export.
func (s *Store) Attachments(ctx context.Context, exportID int64) (Attachments, error) {
	var a Attachments
	err := s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state IN ('fetched', 'published')), count(*) FILTER (WHERE state = 'failed'),
			count(*) FILTER (WHERE state = 'pending'), coalesce(sum(bytes) FILTER (WHERE state IN ('fetched', 'published')), 0)
		FROM ingest.attachment WHERE export_id = $1`, exportID).Scan(&a.Fetched, &a.Failed, &a.Pending, &a.Bytes)
	if err != nil {
		return a, fmt.Errorf("count the attachments of an export: %w", err)
	}
	return a, nil
}
