package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
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
	// needs is the lowest version that a binary has to know once this migration is applied; 0 keeps all that worked before.
	needs int
	sql   string
}

// migrationLock is the key of the advisory lock under which migrations run ("ingestd" in ASCII).
const migrationLock = 0x696e6765737464

// Migrate brings the control schema and the job engine's tables to the versions that this binary needs, under a lock: of
// several instances one migrates and the others wait for it. It returns the migrations that it applied. Where nothing is to be done it
// needs no right to do it: a role that may only work on the tables (Roles) finds out that way that it can.
func (s *Store) Migrate(ctx context.Context) ([]Migration, error) { return s.MigrateBy(ctx, Actor{}) }

// MigrateBy is Migrate by an operator's word.
func (s *Store) MigrateBy(ctx context.Context, by Actor) ([]Migration, error) {
	// A connection of its own, because the lock is its session's; it ends with it.
	conn, err := s.connectSession(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		return nil, fmt.Errorf("wait for the migration lock: %w", err)
	}
	v, err := readVersions(ctx, conn)
	if err != nil {
		return nil, err
	}
	if v.isNewer() {
		return nil, s.CheckSchema(ctx) // nothing is made by an older binary
	}
	if err := s.refuseOlderInstances(ctx, conn, v); err != nil {
		return nil, err
	}

	if err := makeBookkeeping(ctx, conn); err != nil {
		return nil, err
	}
	if err := s.makeSchemas(ctx, conn); err != nil {
		return nil, err
	}
	var applied []Migration
	for _, m := range v.all {
		if !m.AppliedAt.IsZero() {
			continue
		}
		err := inTx(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, m.sql); err != nil {
				return fmt.Errorf("apply migration %04d_%s: %w", m.Version, m.Name, err)
			}
			_, err := tx.Exec(ctx, `INSERT INTO ingest.schema_migration (version, name) VALUES ($1, $2)`, m.Version, m.Name)
			if err == nil && m.needs > 0 {
				_, err = tx.Exec(ctx, `UPDATE ingest.schema_migration SET needs = $2 WHERE version = $1`, m.Version, m.needs)
			}
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

	engine, err := engineMigrator(s.bulk)
	if err != nil {
		return applied, err
	}
	if _, err := engine.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return applied, fmt.Errorf("migrate the job engine's tables: %w", err)
	}
	return applied, nil
}

func engineMigrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	engine, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: EngineSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("prepare the job engine's migrations: %w", err)
	}
	return engine, nil
}

// makeBookkeeping makes what migrations are recorded in. It does not say IF NOT EXISTS of what stands: Postgres asks for the right to
// make a schema even where there is nothing to make.
func makeBookkeeping(ctx context.Context, conn executor) error {
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

// Migrations lists the migrations of the control schema, applied or not, those of a newer binary too.
func (s *Store) Migrations(ctx context.Context) ([]Migration, error) {
	v, err := readVersions(ctx, s.pool)
	return append(v.all, v.others...), err
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
