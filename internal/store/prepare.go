package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/failpoint"
)

// prepare readies an export's staging tables for the publish: it leaves one row an id, the one that is to be published,
// and builds what a new partition needs. All of it happens on tables that no reader knows, one transaction a type, and
// is not repeated once it is done.
func (s *Store) prepare(ctx context.Context, conn *pgx.Conn, e Export) ([]string, error) {
	types, err := s.stagedTypes(ctx, conn, e.ID)
	if err != nil {
		return nil, err
	}
	for _, resourceType := range types {
		// In a transaction of its own: others that need the table must not wait until this export's indexes are built.
		if err := inTx(ctx, conn, func(tx pgx.Tx) error { return s.ensureTable(ctx, tx, resourceType) }); err != nil {
			return nil, err
		}
		err := inPublishTx(ctx, conn, func(tx pgx.Tx) error {
			err := s.prepareType(ctx, tx, e, resourceType)
			failpoint.Here(failpoint.PrepareCommit)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", resourceType, err)
		}
		failpoint.Here(failpoint.PrepareCommitted)
	}
	return types, nil
}

// stagedTypes lists the types that an export holds, in a fixed order: all publishes lock the tables in the same one.
func (s *Store) stagedTypes(ctx context.Context, db querier, exportID int64) ([]string, error) {
	names, err := stagingTables(ctx, db, exportID)
	if err != nil {
		return nil, err
	}
	stands := make(map[string]bool, len(names))
	for _, name := range names {
		stands[name] = true
	}
	return typesWhere(func(table string) bool { return stands[stageName(exportID, table)] }), nil
}

func (s *Store) prepareType(ctx context.Context, tx pgx.Tx, e Export, resourceType string) error {
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	var prepared bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.export_type
		WHERE export_id = $1 AND resource_type = $2 AND prepared_at IS NOT NULL)`, e.ID, resourceType).Scan(&prepared)
	if err != nil {
		return fmt.Errorf("look whether it is prepared: %w", err)
	}
	if prepared {
		return nil
	}
	live, err := s.hasPartition(ctx, tx, table, e.Payer)
	if err != nil {
		return err
	}
	p := preparation{
		tx: tx, payer: e.Payer, exportID: e.ID, stage: quote(stageSchema, stageName(e.ID, table)), seen: quote(stageSchema, seenName(e.ID, table)),
		live: quote(s.schema, partition(table, e.Payer)), index: quote(shorten(stageName(e.ID, table) + "_id")),
	}
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.export_file WHERE export_id = $1 AND subsetted > 0)`, e.ID).Scan(&p.subsetted)
	if err != nil {
		return fmt.Errorf("look for incomplete resources: %w", err)
	}
	if live {
		err = p.compareWithLive(ctx)
	} else {
		err = p.becomePartition(ctx, partition(table, e.Payer))
	}
	if err != nil {
		return err
	}
	if err := p.tx.QueryRow(ctx, `SELECT count(*) FROM `+p.stage).Scan(&p.staged); err != nil {
		return fmt.Errorf("count the staged rows: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO ingest.export_type (export_id, resource_type, staged, unchanged, superseded, standing, prepared_at)
		VALUES ($1, $2, $3, $4, $5, $6, now())
		ON CONFLICT (export_id, resource_type) DO UPDATE SET staged = excluded.staged, unchanged = excluded.unchanged,
			superseded = excluded.superseded, standing = excluded.standing, prepared_at = excluded.prepared_at`,
		e.ID, resourceType, p.staged, p.unchanged, p.superseded, p.standing)
	if err != nil {
		return fmt.Errorf("note the preparation: %w", err)
	}
	return nil
}

// preparation is the preparing of one type within its transaction.
type preparation struct {
	tx                       pgx.Tx
	payer                    string
	exportID                 int64
	stage, seen, live, index string // quoted names
	subsetted                bool   // the export holds incomplete resources

	staged     int64 // rows to publish, counted in the end
	unchanged  int64 // resources that stand as they are
	superseded int64 // lines that lost to another line, or to what is published
	standing   int64 // resources of the export of which no row is published: unchanged, or older than the published
}

func (p *preparation) exec(ctx context.Context, what, sql string, args ...any) (int64, error) {
	tag, err := p.tx.Exec(ctx, sql, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return tag.RowsAffected(), nil
}

// unique builds a unique index over the staged ids. Where ids repeat, which is not the rule, it first leaves one line an
// id: the newest last_updated, and among equals the later line (protocol.md ND-6).
func (p *preparation) unique(ctx context.Context, sql string) error {
	savepoint, err := p.tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("set a savepoint: %w", err)
	}
	_, err = savepoint.Exec(ctx, sql)
	if err == nil {
		if err := savepoint.Commit(ctx); err != nil {
			return fmt.Errorf("release a savepoint: %w", err)
		}
		return nil
	}
	if SQLState(err) != pgerrcodeUniqueViolation {
		return fmt.Errorf("build a unique index: %w", err)
	}
	if err := savepoint.Rollback(ctx); err != nil {
		return fmt.Errorf("return to a savepoint: %w", err)
	}
	n, err := p.exec(ctx, "drop repeated resources", `
		DELETE FROM `+p.stage+` WHERE ctid IN (
			SELECT ctid FROM (
				SELECT ctid, row_number() OVER (PARTITION BY id
					ORDER BY `+p.completeFirst()+`last_updated DESC NULLS LAST, file DESC, line DESC) AS rank
				FROM `+p.stage+` AS staged
			) AS ranked WHERE rank > 1)`)
	if err != nil {
		return err
	}
	p.superseded += n
	_, err = p.exec(ctx, "build a unique index", sql)
	return err
}

// pgerrcodeUniqueViolation is SQLSTATE unique_violation.
const pgerrcodeUniqueViolation = "23505"

// becomePartition turns the staging table into what ATTACH takes without a scan: the payer's column, a CHECK constraint
// that implies the partition's bound, and the indexes of the parent. A column that is added with a constant default writes
// no row.
func (p *preparation) becomePartition(ctx context.Context, name string) error {
	for _, step := range []struct{ what, sql string }{
		{"add the payer", `ALTER TABLE ` + p.stage + ` ADD COLUMN payer text NOT NULL DEFAULT ` + literal(p.payer)},
		{"state the payer", `ALTER TABLE ` + p.stage + ` ADD CONSTRAINT payer_is CHECK (payer = ` + literal(p.payer) + `)`},
	} {
		if _, err := p.exec(ctx, step.what, step.sql); err != nil {
			return err
		}
	}
	err := p.unique(ctx, `ALTER TABLE `+p.stage+` ADD CONSTRAINT `+quote(primaryKeyName(name))+` PRIMARY KEY (payer, id) INCLUDE (digest)`)
	if err != nil {
		return err
	}
	for _, step := range []struct{ what, sql string }{
		{"build the patient index", `CREATE INDEX ` + quote(patientIndexName(name)) + ` ON ` + p.stage + ` (patient_id)`},
		{"gather statistics", `ANALYZE ` + p.stage},
	} {
		if _, err := p.exec(ctx, step.what, step.sql); err != nil {
			return err
		}
	}
	return nil
}

// literal quotes a string for SQL that takes no parameters.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
