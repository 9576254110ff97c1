package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"ingestd/migrations"
)

// EngineSchema is the schema of the job engine's tables.
const EngineSchema = "river"

// controlSchema is the schema of what ingestd knows of its own work.
const controlSchema = "ingest"

// Migration is one step of the control schema.
type Migration struct {
	Version int
	Name    string
	// AppliedAt is zero where the migration has not been applied.
	AppliedAt time.Time
	sql       string
}

// SchemaTooNewError says that the database was migrated by a newer ingestd than this one.
type SchemaTooNewError struct{ Database, Binary int }

func (e *SchemaTooNewError) Error() string {
	return fmt.Sprintf("the database is at schema version %d, but this ingestd knows versions up to %d: "+
		"run the newer ingestd that migrated it", e.Database, e.Binary)
}

// SchemaTooOldError says that migrations are still to be applied.
type SchemaTooOldError struct{ Database, Binary int }

func (e *SchemaTooOldError) Error() string {
	return fmt.Sprintf("the database is at schema version %d, this ingestd needs version %d: run 'ingestd migrate up'",
		e.Database, e.Binary)
}

// migrationLock is the key of the advisory lock under which migrations run ("ingestd" in ASCII).
const migrationLock = 0x696e6765737464

// Migrate brings the control schema and the job engine's tables to the versions that this binary needs, under a lock: of
// several instances one migrates and the others wait for it. It returns the migrations that it applied. Where nothing is to be done it
// needs no right to do it: a role that may only work on the tables (Roles) finds out that way that it can.
func (s *Store) Migrate(ctx context.Context) ([]Migration, error) { return s.MigrateBy(ctx, Actor{}) }

// MigrateBy is Migrate by an operator's word.
func (s *Store) MigrateBy(ctx context.Context, by Actor) ([]Migration, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		return nil, fmt.Errorf("wait for the migration lock: %w", err)
	}
	defer unlock(ctx, conn.Conn(), migrationLock)

	if err := makeBookkeeping(ctx, conn); err != nil {
		return nil, err
	}
	if err := s.makeSchemas(ctx, conn); err != nil {
		return nil, err
	}
	all, err := readMigrations(ctx, conn)
	if err != nil {
		return nil, err
	}
	var applied []Migration
	for _, m := range all {
		if !m.AppliedAt.IsZero() {
			continue
		}
		err := inTx(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, m.sql); err != nil {
				return fmt.Errorf("apply migration %04d_%s: %w", m.Version, m.Name, err)
			}
			_, err := tx.Exec(ctx, `INSERT INTO ingest.schema_migration (version, name) VALUES ($1, $2)`, m.Version, m.Name)
			if err != nil {
				return fmt.Errorf("record migration %04d_%s: %w", m.Version, m.Name, err)
			}
			return s.auditMigrationTx(ctx, tx, by, m)
		})
		if err != nil {
			return applied, err
		}
		m.AppliedAt = time.Now()
		applied = append(applied, m)
	}

	engine, err := rivermigrate.New(riverpgxv5.New(s.pool), &rivermigrate.Config{Schema: EngineSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return applied, fmt.Errorf("prepare the job engine's migrations: %w", err)
	}
	if _, err := engine.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return applied, fmt.Errorf("migrate the job engine's tables: %w", err)
	}
	return applied, nil
}

// makeBookkeeping makes what migrations are recorded in. It does not say IF NOT EXISTS of what stands: Postgres asks for the right to
// make a schema even where there is nothing to make.
func makeBookkeeping(ctx context.Context, conn *pgxpool.Conn) error {
	for _, schema := range []string{controlSchema, EngineSchema} {
		if err := makeSchema(ctx, conn, schema); err != nil {
			return err
		}
	}
	var stands bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('ingest.schema_migration') IS NOT NULL`).Scan(&stands); err != nil {
		return fmt.Errorf("look for the schema version: %w", err)
	}
	if stands {
		return nil
	}
	_, err := conn.Exec(ctx, `
		CREATE TABLE ingest.schema_migration (
			version    integer PRIMARY KEY,
			name       text NOT NULL,
			applied_at timestamptz NOT NULL DEFAULT now()
		)`)
	if err != nil {
		return fmt.Errorf("make the table of migrations: %w", err)
	}
	return nil
}

// auditMigrationTx records a migration, unless it is older than the table of audit events.
func (s *Store) auditMigrationTx(ctx context.Context, tx pgx.Tx, by Actor, m Migration) error {
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('ingest.audit_event') IS NOT NULL`).Scan(&exists); err != nil {
		return fmt.Errorf("look for the audit events: %w", err)
	}
	if !exists {
		return nil
	}
	return s.AuditTx(ctx, tx, by, ActionMigrate, fmt.Sprintf("schema %04d_%s", m.Version, m.Name), nil)
}

// Migrations lists the migrations of the control schema, applied or not.
func (s *Store) Migrations(ctx context.Context) ([]Migration, error) {
	return readMigrations(ctx, s.pool)
}

// CheckSchema reports, as a *SchemaTooNewError or *SchemaTooOldError, that the database's schema is not this binary's.
func (s *Store) CheckSchema(ctx context.Context) error {
	all, err := readMigrations(ctx, s.pool)
	if err != nil {
		return err
	}
	for i, m := range all {
		if m.AppliedAt.IsZero() {
			return &SchemaTooOldError{Database: i, Binary: len(all)}
		}
	}
	return nil
}

// execer is what a statement runs on.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// querier is what a query runs on: the pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// executor is what both runs on.
type executor interface {
	execer
	querier
}

var migrationName = regexp.MustCompile(`^(\d{4})_(\w+)\.sql$`)

func readMigrations(ctx context.Context, db querier) ([]Migration, error) {
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the embedded migrations: %w", err)
	}
	all := make([]Migration, 0, len(files))
	for i, file := range files {
		match := migrationName.FindStringSubmatch(file)
		if match == nil {
			return nil, fmt.Errorf("embedded migration %s: expected a name like 0001_name.sql", file)
		}
		version, _ := strconv.Atoi(match[1])
		if version != i+1 {
			return nil, fmt.Errorf("embedded migration %s: expected version %04d", file, i+1)
		}
		sql, err := fs.ReadFile(migrations.FS, file)
		if err != nil {
			return nil, fmt.Errorf("read embedded migration %s: %w", file, err)
		}
		all = append(all, Migration{Version: version, Name: match[2], sql: string(sql)})
	}

	var exists bool
	if err := db.QueryRow(ctx, `SELECT to_regclass('ingest.schema_migration') IS NOT NULL`).Scan(&exists); err != nil {
		return nil, fmt.Errorf("look for the schema version: %w", err)
	}
	if !exists {
		return all, nil
	}
	rows, err := db.Query(ctx, `SELECT version, applied_at FROM ingest.schema_migration ORDER BY version`)
	if err != nil {
		return nil, fmt.Errorf("read the schema version: %w", err)
	}
	var version int
	var appliedAt time.Time
	_, err = pgx.ForEachRow(rows, []any{&version, &appliedAt}, func() error {
		if version > len(all) {
			return &SchemaTooNewError{Database: version, Binary: len(all)}
		}
		all[version-1].AppliedAt = appliedAt
		return nil
	})
	if tooNew, ok := errors.AsType[*SchemaTooNewError](err); ok {
		return nil, tooNew
	}
	if err != nil {
		return nil, fmt.Errorf("read the schema version: %w", err)
	}
	return all, nil
}
