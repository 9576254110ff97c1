package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// maxIdentifier is the longest name that Postgres keeps whole (NAMEDATALEN - 1).
const maxIdentifier = 63

// UnknownTypeError says that a payer named a type that FHIR does not have; no table is made for it.
type UnknownTypeError struct{}

func (*UnknownTypeError) Error() string {
	return "not a resource type of FHIR R4, R4B or R5"
}

func tableName(resourceType string) (string, error) {
	name, ok := fhir.TableName(resourceType)
	if !ok {
		return "", &UnknownTypeError{}
	}
	return name, nil
}

// typesWhere lists, in alphabetical order, the resource types whose table's name meets the condition.
func typesWhere(condition func(table string) bool) []string {
	var types []string
	for _, resourceType := range fhir.Types() {
		if table, _ := fhir.TableName(resourceType); condition(table) {
			types = append(types, resourceType)
		}
	}
	return types
}

// makeSchemas makes the schemas that the configuration names.
func (s *Store) makeSchemas(ctx context.Context, db executor) error {
	for _, schema := range []string{s.schema, s.history} {
		if err := makeSchema(ctx, db, schema); err != nil {
			return err
		}
	}
	return s.makeAsOf(ctx, db)
}

// makeSchema makes a schema where it does not stand.
func makeSchema(ctx context.Context, db executor, schema string) error {
	var stands bool
	if err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&stands); err != nil {
		return fmt.Errorf("look for schema %s: %w", schema, err)
	}
	if stands {
		return nil
	}
	if _, err := db.Exec(ctx, `CREATE SCHEMA `+quote(schema)); err != nil {
		return fmt.Errorf("make schema %s: %w", schema, err)
	}
	return nil
}

// ensureTable makes the table of a resource type, and that of its history, where they do not stand yet.
//
// The table is partitioned by payer, so that a payer's first load can be attached without copying, and a payer can be
// dropped at once. jsonb is compressed with lz4, which loads 1.4 times as fast as pglz. The primary key holds the digest too:
// whether a line stands there as it is, the index alone tells.
func (s *Store) ensureTable(ctx context.Context, tx pgx.Tx, resourceType string) error {
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	var exists bool
	err = tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL`,
		quote(s.schema, table), quote(s.history, table)).Scan(&exists)
	if err != nil {
		return fmt.Errorf("look for table %s: %w", table, err)
	}
	if exists {
		return nil
	}
	if err := lockTx(ctx, tx, tableKey(table)); err != nil {
		return err
	}
	live, history := quote(s.schema, table), quote(s.history, table)
	sql := fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS %[1]s (
			payer        text        NOT NULL,
			id           text        NOT NULL,
			version_id   text,
			last_updated timestamptz,
			patient_id   text,
			resource     jsonb       COMPRESSION lz4 NOT NULL,
			digest       bytea       NOT NULL,
			export_id    bigint      NOT NULL,
			ingested_at  timestamptz NOT NULL DEFAULT now(),
			PRIMARY KEY (payer, id) INCLUDE (digest)
		) PARTITION BY LIST (payer);
		CREATE INDEX IF NOT EXISTS %[3]s ON %[1]s (patient_id);
		COMMENT ON TABLE %[1]s IS 'FHIR %[4]s: what each payer says now, one row a resource.';
		COMMENT ON COLUMN %[1]s.payer IS 'Name of the payer in the configuration.';
		COMMENT ON COLUMN %[1]s.id IS 'Logical id of the resource at the payer.';
		COMMENT ON COLUMN %[1]s.version_id IS 'meta.versionId; null where the payer sends none.';
		COMMENT ON COLUMN %[1]s.last_updated IS 'meta.lastUpdated; null where the payer sends none.';
		COMMENT ON COLUMN %[1]s.patient_id IS 'Logical id of the patient that the resource is about; null where there is none.';
		COMMENT ON COLUMN %[1]s.digest IS 'First 16 bytes of the SHA-256 of the line as the payer sent it.';
		COMMENT ON COLUMN %[1]s.export_id IS 'The export (ingest.export) that last wrote the row.';
		COMMENT ON COLUMN %[1]s.ingested_at IS 'When that export was published.';

		CREATE TABLE IF NOT EXISTS %[2]s (
			payer        text        NOT NULL,
			id           text        NOT NULL,
			version_id   text,
			last_updated timestamptz,
			patient_id   text,
			resource     jsonb       COMPRESSION lz4 NOT NULL,
			digest       bytea       NOT NULL,
			export_id    bigint      NOT NULL,
			valid_from   timestamptz NOT NULL,
			valid_to     timestamptz NOT NULL,
			ended_by     bigint      NOT NULL,
			reason       text        NOT NULL CHECK (reason IN ('deleted', 'ghost', 'updated'))
		);
		CREATE INDEX IF NOT EXISTS %[5]s ON %[2]s (payer, id, valid_from);
		COMMENT ON TABLE %[2]s IS 'FHIR %[4]s: versions that were published once and are no longer.';
		COMMENT ON COLUMN %[2]s.valid_from IS 'When this version was published.';
		COMMENT ON COLUMN %[2]s.valid_to IS 'When it left the table, or was replaced.';
		COMMENT ON COLUMN %[2]s.ended_by IS 'The export that ended it.';
		COMMENT ON COLUMN %[2]s.reason IS 'deleted: the payer said so; ghost: missing from a full export; updated: replaced by a newer version.'`,
		live, history, quote(shorten(table+"_patient_id")), resourceType, quote(shorten(table+"_history_id")))
	if _, err := tx.Exec(ctx, sql); err != nil {
		return fmt.Errorf("make table %s: %w", table, err)
	}
	return nil
}

// partition is the name of a payer's partition of a type's table, without the schema.
func partition(table, payer string) string { return shorten(table + "__" + payer) }

// ensurePartition makes a payer's partition of a type's table where it does not stand. It is made by itself and attached, because CREATE
// TABLE PARTITION OF would keep out every reader of the table.
func (s *Store) ensurePartition(ctx context.Context, tx pgx.Tx, table, payer string) error {
	exists, err := s.hasPartition(ctx, tx, table, payer)
	if err != nil || exists {
		return err
	}
	name := partition(table, payer)
	_, err = tx.Exec(ctx, fmt.Sprintf(`
		CREATE TABLE %[1]s (
			LIKE %[2]s INCLUDING DEFAULTS INCLUDING COMPRESSION INCLUDING STORAGE,
			CONSTRAINT %[3]s PRIMARY KEY (payer, id) INCLUDE (digest)
		);
		CREATE INDEX %[4]s ON %[1]s (patient_id);
		ALTER TABLE %[2]s ATTACH PARTITION %[1]s FOR VALUES IN (%[5]s)`,
		quote(s.schema, name), quote(s.schema, table), quote(primaryKeyName(name)), quote(patientIndexName(name)), literal(payer)))
	if err != nil {
		return fmt.Errorf("make the payer's partition: %w", err)
	}
	return nil
}

// Indexes share the namespace of tables. The dollar, which no payer's name holds, keeps those of a partition from being the name of
// another payer's partition.
func primaryKeyName(partition string) string   { return shorten(partition + "$pkey") }
func patientIndexName(partition string) string { return shorten(partition + "$patient_id") }

// hasPartition reports whether a payer's partition of a type stands: whether anything was ever published there.
func (s *Store) hasPartition(ctx context.Context, db querier, table, payer string) (bool, error) {
	var exists bool
	err := db.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, quote(s.schema, partition(table, payer))).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("look for the partition of %s: %w", table, err)
	}
	return exists, nil
}

// typesWithPartition returns those of the types of which a payer has a partition, in the order in which they are given.
func (s *Store) typesWithPartition(ctx context.Context, db querier, types []string, payer string) ([]string, error) {
	names := make([]string, len(types))
	for i, resourceType := range types {
		table, err := tableName(resourceType)
		if err != nil {
			return nil, err
		}
		names[i] = quote(s.schema, partition(table, payer))
	}
	rows, err := db.Query(ctx, `
		SELECT type FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (type, name, place)
		WHERE to_regclass(name) IS NOT NULL ORDER BY place`, types, names)
	if err != nil {
		return nil, fmt.Errorf("look for the partitions of %s: %w", payer, err)
	}
	stand, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for the partitions of %s: %w", payer, err)
	}
	return stand, nil
}

// The staging tables of an export and type: the lines to publish, and the keys of lines that stand unchanged.
func stageName(exportID int64, table string) string {
	return shorten(fmt.Sprintf("e%d_%s", exportID, table))
}

func seenName(exportID int64, table string) string {
	return shorten(fmt.Sprintf("e%d_seen_%s", exportID, table))
}

// deletedName is the staging table of an export's deletions, of all types.
func deletedName(exportID int64) string { return fmt.Sprintf("e%d_deleted", exportID) }

// stageSchema holds the staging tables.
const stageSchema = "ingest_stage"

// ensureStage makes the staging tables of an export and type. The columns are those of the resource table that differ
// from row to row; the others are added at publish with a constant default, which writes no row. file and line are the
// origin of each row: among equals the later line wins.
// The errors are those of stillLoads.
func (s *Store) ensureStage(ctx context.Context, db beginner, e Export, table string) error {
	stage := stageName(e.ID, table)
	return inTx(ctx, db, func(tx pgx.Tx) error {
		if err := lockTx(ctx, tx, tableKey(stage)); err != nil {
			return err
		}
		if err := stillLoads(ctx, tx, e); err != nil {
			return err
		}
		return s.makeStage(ctx, tx, stage, seenName(e.ID, table))
	})
}

// stillLoads reports by errStale that an export has ended or started again since it was read. It keeps it from doing so until
// the transaction ends: what is made in it stands before DropStaging looks.
func stillLoads(ctx context.Context, tx pgx.Tx, e Export) error {
	var one int
	err := tx.QueryRow(ctx, `SELECT 1 FROM ingest.export WHERE id = $1 AND state IN ('polling', 'loading') AND restarts = $2 FOR SHARE`,
		e.ID, e.Restarts).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return errStale
	}
	if err != nil {
		return fmt.Errorf("look whether export %d still loads: %w", e.ID, err)
	}
	return nil
}

// makeStage makes a staging table and the one of what was seen, by their names.
func (s *Store) makeStage(ctx context.Context, tx pgx.Tx, stage, seen string) error {
	// Of whole resources and of digests nothing can be learned from statistics, and they would be most of the work to gather them.
	_, err := tx.Exec(ctx, fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS %[1]s (
			id           text    NOT NULL,
			version_id   text,
			last_updated timestamptz,
			patient_id   text,
			resource     jsonb   COMPRESSION lz4 NOT NULL,
			digest       bytea   NOT NULL,
			file         integer NOT NULL,
			line         bigint  NOT NULL
		);
		ALTER TABLE %[1]s ALTER COLUMN resource SET STATISTICS 0, ALTER COLUMN digest SET STATISTICS 0;
		CREATE TABLE IF NOT EXISTS %[2]s (
			file  integer  NOT NULL,
			ids   text[]   COMPRESSION lz4 NOT NULL,
			lines bigint[] COMPRESSION lz4 NOT NULL
		)`, quote(stageSchema, stage), quote(stageSchema, seen)))
	if err != nil {
		return fmt.Errorf("make the staging table %s: %w", stage, err)
	}
	return nil
}

// ensureDeleted makes the staging table of an export's deletions.
func (s *Store) ensureDeleted(ctx context.Context, db beginner, e Export) error {
	name := deletedName(e.ID)
	return inTx(ctx, db, func(tx pgx.Tx) error {
		if err := lockTx(ctx, tx, tableKey(name)); err != nil {
			return err
		}
		if err := stillLoads(ctx, tx, e); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(`
			CREATE TABLE IF NOT EXISTS %s (
				resource_type text    NOT NULL,
				id            text    NOT NULL,
				file          integer NOT NULL
			)`, quote(stageSchema, name)))
		if err != nil {
			return fmt.Errorf("make the staging table of deletions: %w", err)
		}
		return nil
	})
}

// stagingTables lists what stands of an export's staging tables, without the schema.
func stagingTables(ctx context.Context, db querier, exportID int64) ([]string, error) {
	// The underscore is escaped: the tables of export 11 are not those of export 1.
	rows, err := db.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename LIKE $2 ORDER BY tablename`,
		stageSchema, fmt.Sprintf(`e%d\_%%`, exportID))
	if err != nil {
		return nil, fmt.Errorf("list the staging tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the staging tables: %w", err)
	}
	return names, nil
}

// droppedAtOnce is how many tables go in one transaction: a commit for each would be most of the time of a small export's clean-up, and
// all of them at once more locks than Postgres has by default, for an export of every type.
const droppedAtOnce = 32

// DropStaging drops what is left of the staging tables of an export that is over, and of attachments that were fetched and not
// published.
func (s *Store) DropStaging(ctx context.Context, exportID int64) error {
	if err := s.dropStages(ctx, exportID, func(context.Context, pgx.Tx) error { return nil }); err != nil {
		return err
	}
	_, err := s.pool.Exec(ctx, `UPDATE ingest.attachment SET content = NULL WHERE export_id = $1 AND content IS NOT NULL`, exportID)
	if err != nil {
		return fmt.Errorf("let go of fetched attachments: %w", err)
	}
	return nil
}

// VoidStaging drops the staging tables of an export that starts again, before its new kick-off. A job that hung before it came here may have
// been taken over, and what stands in staging be of the new kick-off: then nothing is dropped, and the error IsStale.
func (s *Store) VoidStaging(ctx context.Context, exportID int64, generation int) error {
	return s.dropStages(ctx, exportID, func(ctx context.Context, tx pgx.Tx) error {
		// Whoever takes the export over has to change its row, and waits. So that nobody waits for long, neither do the drops.
		if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, defaultLockTimeout.Milliseconds())); err != nil {
			return fmt.Errorf("bound the wait for locks: %w", err)
		}
		var one int
		err := tx.QueryRow(ctx, `SELECT 1 FROM ingest.export WHERE id = $1 AND generation = $2 AND state = 'starting' FOR NO KEY UPDATE`,
			exportID, generation).Scan(&one)
		if errors.Is(err, pgx.ErrNoRows) {
			return errStale
		}
		if err != nil {
			return fmt.Errorf("look whether export %d still starts: %w", exportID, err)
		}
		return nil
	})
}

// dropStages drops what stands of an export's staging tables, some at once, each time provided that check does not fail in the transaction.
func (s *Store) dropStages(ctx context.Context, exportID int64, check func(context.Context, pgx.Tx) error) error {
	names, err := stagingTables(ctx, s.pool, exportID)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(names, droppedAtOnce) {
		var tables []string
		for _, name := range batch {
			tables = append(tables, quote(stageSchema, name))
		}
		err := inTx(ctx, s.pool, func(tx pgx.Tx) error {
			if err := check(ctx, tx); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+strings.Join(tables, ", ")); err != nil {
				return fmt.Errorf("drop the staging tables %s: %w", strings.Join(batch, ", "), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// shorten returns name, or where Postgres would cut it, a name of the permitted length that is still unique.
func shorten(name string) string {
	if len(name) <= maxIdentifier {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	suffix := "_" + hex.EncodeToString(sum[:6])
	return name[:maxIdentifier-len(suffix)] + suffix
}
