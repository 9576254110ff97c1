package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/migrations"
)

// SchemaTooNewError says that a newer ingestd has migrated the database to what this one cannot work with.
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

// ErrEngineTooOld says that migrations of the job engine's tables are still to be applied.
var ErrEngineTooOld = errors.New("the job engine's tables are older than this ingestd needs: run 'ingestd migrate up'")

// OlderInstancesError says that instances are at work which cannot go on once the database is migrated.
type OlderInstancesError struct {
	Instances []string // name and version
	Needs     int
}

func (e *OlderInstancesError) Error() string {
	return fmt.Sprintf("instances are at work whose version cannot go on with schema version %d: %s: stop them first (one that died counts for 45 s)",
		e.Needs, strings.Join(e.Instances, ", "))
}

// versions is where a database stands, by the migrations of this binary.
type versions struct {
	all    []Migration // those of this binary
	others []Migration // those that a newer one has applied
	newest int         // that is applied, perhaps of a newer binary
	needs  int         // the lowest version that a binary has to know
}

// isNewer reports whether a newer binary has migrated the database.
func (v versions) isNewer() bool { return v.newest > len(v.all) }

// check reports that this binary cannot work on the database. It can on that of a newer one whose migrations only add.
func (v versions) check() error {
	if v.needs > len(v.all) {
		return &SchemaTooNewError{Database: v.newest, Binary: len(v.all)}
	}
	for i, m := range v.all {
		if m.AppliedAt.IsZero() {
			return &SchemaTooOldError{Database: i, Binary: len(v.all)}
		}
	}
	return nil
}

// CheckSchema reports, as a *SchemaTooNewError, a *SchemaTooOldError or ErrEngineTooOld, that this binary cannot work with the
// database's schema.
func (s *Store) CheckSchema(ctx context.Context) error {
	v, err := readVersions(ctx, s.pool)
	if err != nil {
		return err
	}
	if err := v.check(); err != nil {
		return err
	}
	engine, err := engineMigrator(s.pool)
	if err != nil {
		return err
	}
	result, err := engine.Validate(ctx, nil)
	if err != nil {
		return fmt.Errorf("look at the job engine's tables: %w", err)
	}
	if !result.OK {
		return ErrEngineTooOld
	}
	return nil
}

// instancesSince is the version of the schema that brought the list of instances.
const instancesSince = 2

// refuseOlderInstances keeps a migration from being applied under instances that cannot work after it. Those of a version that
// does not tell what it knows count as the oldest.
func (s *Store) refuseOlderInstances(ctx context.Context, conn *pgx.Conn, v versions) error {
	needs := 0
	for _, m := range v.all {
		if m.AppliedAt.IsZero() {
			needs = max(needs, m.needs)
		}
	}
	if needs == 0 || v.newest < instancesSince {
		return nil
	}
	rows, err := conn.Query(ctx, `SELECT host || '/' || pid || ' (' || version || ')' FROM ingest.instance AS i
		WHERE seen_at > now() - $1::interval AND coalesce((to_jsonb(i) ->> 'schema')::integer, 0) < $2 ORDER BY started_at`,
		instanceLife, needs)
	if err != nil {
		return fmt.Errorf("look for older instances: %w", err)
	}
	older, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for older instances: %w", err)
	}
	if len(older) > 0 {
		return &OlderInstancesError{Instances: older, Needs: needs}
	}
	return nil
}

var (
	migrationName  = regexp.MustCompile(`^(\d{4})_(\w+)\.sql$`)
	migrationNeeds = regexp.MustCompile(`(?m)^-- needs: (\d+)$`)
)

// SchemaVersion is the version of the schema that this binary brings.
func SchemaVersion() int {
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		panic(err) // the pattern is constant
	}
	return len(files)
}

// embeddedMigrations are those of this binary, none of them applied.
func embeddedMigrations() ([]Migration, error) {
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
		m := Migration{Version: version, Name: match[2], sql: string(sql)}
		if needs := migrationNeeds.FindStringSubmatch(m.sql); needs != nil {
			m.needs, _ = strconv.Atoi(needs[1])
		}
		all = append(all, m)
	}
	return all, nil
}

// readVersions reads which migrations are applied.
func readVersions(ctx context.Context, db querier) (versions, error) {
	var v versions
	var err error
	if v.all, err = embeddedMigrations(); err != nil {
		return v, err
	}
	var exists bool
	if err := db.QueryRow(ctx, `SELECT to_regclass('ingest.schema_migration') IS NOT NULL`).Scan(&exists); err != nil {
		return v, fmt.Errorf("look for the schema version: %w", err)
	}
	if !exists {
		return v, nil
	}
	// The column needs is younger than the table.
	rows, err := db.Query(ctx, `SELECT version, name, applied_at, coalesce((to_jsonb(m) ->> 'needs')::integer, 0)
		FROM ingest.schema_migration AS m ORDER BY version`)
	if err != nil {
		return v, fmt.Errorf("read the schema version: %w", err)
	}
	var version, needs int
	var name string
	var appliedAt time.Time
	_, err = pgx.ForEachRow(rows, []any{&version, &name, &appliedAt, &needs}, func() error {
		if version <= len(v.all) {
			v.all[version-1].AppliedAt = appliedAt
		} else {
			v.others = append(v.others, Migration{Version: version, Name: name, AppliedAt: appliedAt, needs: needs})
		}
		v.newest, v.needs = max(v.newest, version), max(v.needs, needs)
		return nil
	})
	if err != nil {
		return v, fmt.Errorf("read the schema version: %w", err)
	}
	return v, nil
}
