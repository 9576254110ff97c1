package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Roles are the roles that work on the database with less than its owner's rights. They must exist, and the owner, who grants, must be a
// member of Ingest: the resource tables are Ingest's.
type Roles struct {
	// Ingest is what the daemon works as: it writes, and makes resource tables and partitions.
	Ingest string
	// Reader reads the resource tables; empty for none.
	Reader string
	// ReadHistory lets Reader read the schema of the history, too, and with it call as_of.
	ReadHistory bool
}

// grant are the statements that give the roles what they need, each on what stands and on what will be made later. They can be run
// again: after a migration that adds tables, or to go over to roles of their own on a database that one role has worked on alone.
func (s *Store) grant(r Roles) []string {
	ingest := quote(r.Ingest)
	sql := []string{
		fmt.Sprintf(`GRANT USAGE ON SCHEMA %s, %s TO %s`, controlSchema, EngineSchema, ingest),
		fmt.Sprintf(`GRANT USAGE, CREATE ON SCHEMA %s, %s, %s TO %s`, quote(s.schema), quote(s.history), stageSchema, ingest),
	}
	for _, schema := range []string{controlSchema, EngineSchema} {
		sql = append(sql,
			fmt.Sprintf(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %s TO %s`, schema, ingest),
			fmt.Sprintf(`GRANT USAGE ON ALL SEQUENCES IN SCHEMA %s TO %s`, schema, ingest),
			fmt.Sprintf(`ALTER DEFAULT PRIVILEGES IN SCHEMA %s GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %s`, schema, ingest),
			fmt.Sprintf(`ALTER DEFAULT PRIVILEGES IN SCHEMA %s GRANT USAGE ON SEQUENCES TO %s`, schema, ingest))
	}
	for _, t := range narrowed {
		sql = append(sql,
			fmt.Sprintf(`REVOKE ALL ON %s FROM %s`, t.table, ingest), fmt.Sprintf(`GRANT %s ON %s TO %s`, t.privileges, t.table, ingest))
	}
	// Only its owner may attach a partition to a table, index it or drop it.
	sql = append(sql, fmt.Sprintf(`DO $hand_over$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT format('%%I.%%I', nspname, relname)
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname IN (%s, %s, %s) AND relkind IN ('r', 'p') AND pg_get_userbyid(relowner) <> %s
    LOOP
        EXECUTE format('ALTER TABLE %%s OWNER TO %%I', name, %[4]s);
    END LOOP;
END $hand_over$`, literal(s.schema), literal(s.history), literal(stageSchema), literal(r.Ingest)))
	if r.Reader == "" {
		return sql
	}
	reader := quote(r.Reader)
	schemas := []string{quote(s.schema)}
	if r.ReadHistory {
		schemas = append(schemas, quote(s.history))
	}
	for _, schema := range schemas {
		sql = append(sql,
			fmt.Sprintf(`GRANT USAGE ON SCHEMA %s TO %s`, schema, reader),
			fmt.Sprintf(`GRANT SELECT ON ALL TABLES IN SCHEMA %s TO %s`, schema, reader),
			fmt.Sprintf(`ALTER DEFAULT PRIVILEGES IN SCHEMA %s GRANT SELECT ON TABLES TO %s`, schema, reader),
			fmt.Sprintf(`ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %s GRANT SELECT ON TABLES TO %s`, ingest, schema, reader))
	}
	return sql
}

// narrowed are the tables that the ingest role may do less with than with the others: what was done stays as it was written, and what
// the schema is, its owner says.
var narrowed = []struct{ table, privileges string }{
	{`ingest.audit_event`, `SELECT, INSERT`},
	{`ingest.schema_migration`, `SELECT`},
	{`river.river_migration`, `SELECT`},
}

// GrantSQL is what Grant runs, as a script.
func (s *Store) GrantSQL(r Roles) string {
	return strings.Join(s.grant(r), ";\n") + ";\n"
}

// Grant gives the roles what they need, in one transaction. The database must have been migrated.
func (s *Store) Grant(ctx context.Context, r Roles, by Actor) error {
	return s.InTx(ctx, func(tx pgx.Tx) error {
		var self string
		if err := tx.QueryRow(ctx, `SELECT current_user`).Scan(&self); err != nil {
			return fmt.Errorf("ask for the role: %w", err)
		}
		if r.Ingest == self || r.Reader == self || r.Ingest == r.Reader {
			return &SameRoleError{Role: self}
		}
		for _, sql := range s.grant(r) {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("grant (%s): %w", firstLine(sql), err)
			}
		}
		return s.AuditTx(ctx, tx, by, ActionGrant, "roles", map[string]any{
			"ingest": r.Ingest, "reader": r.Reader, "read_history": r.ReadHistory,
		})
	})
}

func firstLine(sql string) string {
	line, _, _ := strings.Cut(sql, "\n")
	return line
}

// SameRoleError says that one role was named for what is to be kept apart.
type SameRoleError struct{ Role string }

func (e *SameRoleError) Error() string {
	return fmt.Sprintf("owner, ingest and reader must be different roles, and this connection's is %s: connect as the owner", e.Role)
}

// PermissionError says that the role of this connection lacks what it needs.
type PermissionError struct {
	Role string
	// Missing says what, in the words of GRANT; empty where the role lacks nothing but the right to migrate.
	Missing []string
	cause   error
}

func (e *PermissionError) Error() string {
	if len(e.Missing) == 0 {
		return fmt.Sprintf("the database is to be migrated, and role %s may not do that (%v): "+
			"run 'ingestd migrate up' as the owner of schema ingest, or 'GRANT CREATE ON DATABASE' for a new one", e.Role, e.cause)
	}
	const shown = 8
	list := strings.Join(e.Missing[:min(shown, len(e.Missing))], ", ")
	if more := len(e.Missing) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("role %s lacks %s: run 'ingestd migrate roles --ingest %[1]s' as the owner of schema ingest", e.Role, list)
}

// Unwrap returns what Postgres said, if it was asked.
func (e *PermissionError) Unwrap() error { return e.cause }

// insufficientPrivilege is the SQLSTATE of what the role may not do.
const insufficientPrivilege = "42501"

// CheckGrants reports, as a *PermissionError, that the role of the connection lacks what the work on the database needs. Err is what
// failed before for want of a permission; nil where nothing did.
func (s *Store) CheckGrants(ctx context.Context, err error) error {
	if err != nil && SQLState(err) != insufficientPrivilege {
		return err
	}
	narrowedTables := make([]string, len(narrowed))
	narrowedPrivileges := make([]string, len(narrowed))
	for i, t := range narrowed {
		narrowedTables[i], narrowedPrivileges[i] = t.table, t.privileges
	}
	found := &PermissionError{cause: err}
	rows, queryErr := s.pool.Query(ctx, missingGrants,
		[]string{controlSchema, EngineSchema}, []string{s.schema, s.history, stageSchema}, narrowedTables, narrowedPrivileges)
	if queryErr == nil {
		found.Missing, queryErr = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if queryErr == nil {
		queryErr = s.pool.QueryRow(ctx, `SELECT current_user`).Scan(&found.Role)
	}
	switch {
	case queryErr != nil:
		return errors.Join(err, fmt.Errorf("look at the permissions: %w", queryErr))
	case err == nil && len(found.Missing) == 0:
		return nil
	}
	return found
}

// missingGrants lists what the role lacks: $1 are the schemas whose tables it works on, $2 those in which it makes its own, and $3 with
// $4 the tables on which it needs less. It reads the catalogs alone, which every role may.
const missingGrants = `
	WITH wanted (kind, name, privileges) AS (
		SELECT 'schema', schema, 'USAGE' FROM unnest($1::text[]) AS schema
		UNION ALL SELECT 'schema', schema, 'USAGE, CREATE' FROM unnest($2::text[]) AS schema),
	missing (rank, text) AS (
		SELECT 1, 'TEMPORARY on database ' || current_database()
			WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
		UNION ALL
		SELECT 2, privilege || ' on schema ' || quote_ident(nspname)
			FROM wanted JOIN pg_namespace ON nspname = name, regexp_split_to_table(privileges, ', ') AS privilege
			WHERE NOT has_schema_privilege(pg_namespace.oid, privilege)
		UNION ALL
		SELECT 3, privilege || ' on ' || format('%I.%I', nspname, relname)
			FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
			LEFT JOIN unnest($3::text[], $4::text[]) AS less (name, privileges) ON less.name = format('%I.%I', nspname, relname),
			regexp_split_to_table(coalesce(less.privileges, 'SELECT, INSERT, UPDATE, DELETE'), ', ') AS privilege
			WHERE nspname = ANY ($1) AND relkind IN ('r', 'p') AND NOT has_table_privilege(pg_class.oid, privilege)
		UNION ALL
		SELECT 4, 'USAGE on sequence ' || format('%I.%I', nspname, relname)
			FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
			WHERE nspname = ANY ($1) AND CASE relkind WHEN 'S' THEN NOT has_sequence_privilege(pg_class.oid, 'USAGE') END
		UNION ALL
		SELECT 5, 'ownership of ' || format('%I.%I', nspname, relname)
			FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
			WHERE nspname = ANY ($2) AND relkind IN ('r', 'p') AND NOT pg_has_role(relowner, 'USAGE'))
	SELECT text FROM missing ORDER BY rank, text`

// OwnsEngine reports whether the role of the connection may maintain the job engine's indexes.
func (s *Store) OwnsEngine(ctx context.Context) (bool, error) {
	var owns bool
	err := s.pool.QueryRow(ctx, `SELECT coalesce(bool_and(pg_has_role(relowner, 'USAGE')), false)
		FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relkind = 'r'`, EngineSchema).Scan(&owns)
	if err != nil {
		return false, fmt.Errorf("ask who owns the job engine's tables: %w", err)
	}
	return owns, nil
}
