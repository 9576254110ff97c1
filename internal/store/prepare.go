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

// compareWithLive takes out of staging what must not replace what is published, and counts what stands unchanged.
func (p *preparation) compareWithLive(ctx context.Context) error {
	var changed bool
	if err := p.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+p.stage+`)`).Scan(&changed); err != nil {
		return fmt.Errorf("look for staged rows: %w", err)
	}
	if !changed {
		err := p.tx.QueryRow(ctx, `SELECT count(*), count(DISTINCT id) FROM `+p.seenLines()).Scan(&p.superseded, &p.standing)
		if err != nil {
			return fmt.Errorf("count the unchanged lines: %w", err)
		}
		p.unchanged, p.superseded = p.standing, p.superseded-p.standing
		return nil
	}
	if err := p.sortOut(ctx); err != nil {
		return err
	}
	_, err := p.exec(ctx, "keep what left staging from being taken for a ghost",
		`INSERT INTO `+p.seen+` (file, ids, lines) SELECT -1, array_agg(id), '{}' FROM kept HAVING count(*) > 0`)
	if err != nil {
		return err
	}
	// Of the unchanged lines, each resource counts once, unless a staged line replaces it; the rest is superseded.
	var lines, resources int64
	err = p.tx.QueryRow(ctx, `
		SELECT coalesce(sum(lines), 0), count(*) FILTER (WHERE stage.id IS NULL AND lines > 0), count(*) FILTER (WHERE stage.id IS NULL)
		FROM (SELECT id, count(line) AS lines FROM `+p.seenLines()+` GROUP BY id) AS seen
		LEFT JOIN `+p.stage+` AS stage ON stage.id = seen.id`).Scan(&lines, &resources, &p.standing)
	if err != nil {
		return fmt.Errorf("count the unchanged lines: %w", err)
	}
	p.unchanged += resources
	p.superseded += lines - resources
	return nil
}

// seenLines is the SQL for the keys of the unchanged lines, one row a line, and of resources that left staging, whose line is null.
func (p *preparation) seenLines() string {
	return `(SELECT file, unnest(ids) AS id, unnest(lines) AS line FROM ` + p.seen + `) AS line`
}

// sortOut leaves those rows in staging that are newer than what is published.
func (p *preparation) sortOut(ctx context.Context) error {
	if err := p.unique(ctx, `CREATE UNIQUE INDEX `+p.index+` ON `+p.stage+` (id)`); err != nil {
		return err
	}
	for _, sql := range []string{
		`ANALYZE ` + p.stage,
		// Resources that leave staging here still stand in the export: they are no ghosts.
		`CREATE TEMPORARY TABLE kept (id text NOT NULL) ON COMMIT DROP`,
	} {
		if _, err := p.exec(ctx, "index the staged rows", sql); err != nil {
			return err
		}
	}

	if err := p.dropIncomplete(ctx); err != nil {
		return err
	}

	// An older version never replaces a newer one: exports may be late, or repeat what an earlier one brought. Where lastUpdated does
	// not tell the two apart, the instants of their exports do.
	n, err := p.exec(ctx, "drop older versions than the published", `
		WITH gone AS (
			DELETE FROM `+p.stage+` AS stage USING `+p.live+` AS live
			WHERE live.payer = $1 AND live.id = stage.id AND (live.last_updated > stage.last_updated
				OR (live.last_updated < stage.last_updated) IS NOT TRUE AND live.digest <> stage.digest AND `+ofLaterExport("live", p.exportID)+`)
			RETURNING stage.id)
		INSERT INTO kept SELECT id FROM gone`, p.payer)
	if err != nil {
		return err
	}
	p.superseded += n

	// A line that repeats the published version may stand behind a staged line of the same resource, and then it wins.
	n, err = p.exec(ctx, "drop lines that an unchanged line supersedes", `
		WITH seen AS MATERIALIZED (
			SELECT line.id, line.file, line.line FROM `+p.seenLines()+` JOIN `+p.stage+` AS stage ON stage.id = line.id)
		DELETE FROM `+p.stage+` AS stage USING seen, `+p.live+` AS live
		WHERE seen.id = stage.id AND live.payer = $1 AND live.id = stage.id
			AND (coalesce(live.last_updated, '-infinity'), seen.file, seen.line)
			  > (coalesce(stage.last_updated, '-infinity'), stage.file, stage.line)`, p.payer)
	if err != nil {
		return err
	}
	p.superseded += n

	n, err = p.exec(ctx, "drop rows that stand unchanged", `
		WITH gone AS (
			DELETE FROM `+p.stage+` AS stage USING `+p.live+` AS live
			WHERE live.payer = $1 AND live.id = stage.id AND live.digest = stage.digest
			RETURNING stage.id)
		INSERT INTO kept SELECT id FROM gone`, p.payer)
	p.unchanged += n
	return err
}

// isSubsetted is the SQL for whether a resource is tagged as incomplete.
func isSubsetted(table string) string {
	return `coalesce(` + table + `.resource -> 'meta' -> 'tag' @> '[{"code": "SUBSETTED"}]', false)`
}

// completeFirst orders complete versions of a resource before incomplete ones, where there are any.
func (p *preparation) completeFirst() string {
	if !p.subsetted {
		return ""
	}
	return isSubsetted("staged") + ", "
}

// dropIncomplete takes incomplete resources out of staging whose complete versions are published (protocol.md ND-8).
func (p *preparation) dropIncomplete(ctx context.Context) error {
	if !p.subsetted {
		return nil
	}
	n, err := p.exec(ctx, "drop incomplete resources that stand complete", `
		WITH gone AS (
			DELETE FROM `+p.stage+` AS stage USING `+p.live+` AS live
			WHERE live.payer = $1 AND live.id = stage.id AND `+isSubsetted("stage")+` AND NOT `+isSubsetted("live")+`
			RETURNING stage.id)
		INSERT INTO kept SELECT id FROM gone`, p.payer)
	p.superseded += n
	return err
}

// literal quotes a string for SQL that takes no parameters.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
