package store_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// The roles that deployments/postgres/roles.sql makes.
const (
	ownerRole  = "ingestd_owner"
	ingestRole = "ingestd_ingest"
	readerRole = "ingestd_reader"
)

// makingRoles is held while roles are made: they are the server's, and all databases of the tests share it.
var makingRoles sync.Mutex

// asRole is the connection string of another role.
func asRole(t *testing.T, at, role string) string {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	u.User = nil
	query := u.Query()
	query.Set("user", role)
	u.RawQuery = query.Encode()
	return u.String()
}

func openAs(t *testing.T, at, role string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: asRole(t, at, role), MaxConnections: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// execAs runs statements as a role, the empty one being the superuser.
func execAs(t *testing.T, at, role, sql string) error {
	t.Helper()
	if role != "" {
		at = asRole(t, at, role)
	}
	conn, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql)
	return err
}

// makeRoles runs the script of the roles in a database.
func makeRoles(t *testing.T, at string) {
	t.Helper()
	script, err := os.ReadFile("../../deployments/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	makingRoles.Lock()
	defer makingRoles.Unlock()
	if err := execAs(t, at, "", string(script)); err != nil {
		t.Fatal(err)
	}
}

// separated is a database that its owner has migrated, and whose roles have what they need.
func separated(t *testing.T, r store.Roles) string {
	t.Helper()
	at := testpg.New(t, nil)
	makeRoles(t, at)
	owner := openAs(t, at, ownerRole)
	if _, err := owner.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := owner.Grant(t.Context(), r, store.Actor{Name: "the DBA"}); err != nil {
		t.Fatal(err)
	}
	return at
}

var split = store.Roles{Ingest: ingestRole, Reader: readerRole}

// live lives through what an ingest role has to do: a first load, which is attached, a re-export with ghosts and deletions, which is
// merged, a first publish of a payer whose table stands, an index, a retried quarantine, history, and a removal.
func live(t *testing.T, s *store.Store, payer string) {
	t.Helper()
	ctx := t.Context()
	full := store.NewExport{Payer: payer, RemovesGhosts: true}
	first := run(t, s, full, output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("c", "", "1"), "not JSON", `{"resourceType":"Patient","id":"d","note":"\u0000"}`),
		output("Observation", observation("o", "a", "1")))
	wantLedger(t, first, store.Ledger{Lines: 6, Inserted: 4, Quarantined: 2})
	result, err := s.RetryQuarantine(ctx, first.ID, store.RetryOptions{History: "all", RepairText: true})
	if err != nil || result.Inserted != 1 {
		t.Fatalf("got %+v, %v, want a line mended", result, err)
	}
	again := run(t, s, full, output("Patient", patient("a", "", "2"), patient("d", "", "1")), output("Observation", observation("o", "a", "2")),
		testFile{store.FileDeleted, "", []string{
			`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/b"}}]}`,
		}, -1})
	if again.Updated != 3 || again.Deleted+again.Ghosts != 2 {
		t.Errorf("got %+v, want three updates, and b and c gone", again.Ledger)
	}
	if n := count(t, s, `SELECT count(*) FROM fhir_history.patient`); n == 0 {
		t.Error("the history is empty")
	}
	run(t, s, store.NewExport{Payer: payer + "2"}, output("Patient", patient("a", "", "1")))
	lease, err := s.LockIndexes(ctx, payer)
	if err != nil {
		t.Fatal(err)
	}
	built := 0
	err = s.BuildIndexes(ctx, lease, payer, []store.Index{{Name: "note", Columns: `(resource ->> 'note')`, Types: []string{"Patient"}}},
		func(store.BuiltIndex) { built++ })
	lease.Release(ctx)
	if err != nil || built != 1 {
		t.Fatalf("built %d indexes: %v", built, err)
	}
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE ingest.export SET cleaned_up_at = now() WHERE payer = $1`, payer)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := s.RemovePayer(ctx, payer, store.Actor{Name: "an operator"}); err != nil || removed.Tables != 2 {
		t.Fatalf("removed %+v: %v", removed, err)
	}
}

func TestRoles_the_ingest_role_lives_the_whole_life(t *testing.T) {
	t.Parallel()
	at := separated(t, store.Roles{Ingest: ingestRole, Reader: readerRole, ReadHistory: true})
	s := openAs(t, at, ingestRole)
	// What serve does at its start, and finds nothing to do.
	if n := count(t, s, `SELECT count(*) FROM pg_roles WHERE rolname = current_user AND NOT rolsuper AND rolname = $1`, ingestRole); n != 1 {
		t.Fatal("the test does not run as the ingest role")
	}
	applied, err := s.Migrate(t.Context())
	if err = s.CheckGrants(t.Context(), err); err != nil || len(applied) != 0 {
		t.Fatalf("got %d migrations, %v, want none, and nothing missing", len(applied), err)
	}
	live(t, s, "p")
	if owns, err := s.OwnsEngine(t.Context()); err != nil || owns {
		t.Errorf("got %t, %v, want the job engine's tables to be the owner's", owns, err)
	}

	reader := openAs(t, at, readerRole)
	if n := count(t, reader, `SELECT count(*) FROM fhir.patient WHERE payer = 'p2'`); n != 1 {
		t.Errorf("the reader sees %d patients, want 1", n)
	}
	if n := count(t, reader, `SELECT count(*) FROM fhir.as_of('Patient', now()) WHERE payer = 'p2'`); n != 1 {
		t.Errorf("the reader sees %d patients as of now, want 1", n)
	}
	// Tables that are made later are read, too.
	run(t, s, store.NewExport{Payer: "p3"}, output("Encounter", `{"resourceType":"Encounter","id":"e"}`))
	if n := count(t, reader, `SELECT count(*) FROM fhir.encounter`); n != 1 {
		t.Errorf("the reader sees %d encounters, want 1", n)
	}
}

func TestRoles_are_taken_over_on_a_database_that_one_role_worked_on(t *testing.T) {
	t.Parallel()
	at := testpg.New(t, nil)
	makeRoles(t, at)
	const single = "ingestd_single"
	makingRoles.Lock()
	err := execAs(t, at, "", `DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ingestd_single') THEN CREATE ROLE ingestd_single LOGIN; END IF;
		EXECUTE format('GRANT ALL ON DATABASE %I TO ingestd_single', current_database()); END $$`)
	makingRoles.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	one := openAs(t, at, single)
	if _, err := one.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := one.CheckGrants(t.Context(), nil); err != nil {
		t.Errorf("one role for all lacks something: %v", err)
	}
	if owns, err := one.OwnsEngine(t.Context()); err != nil || !owns {
		t.Errorf("got %t, %v, want the job engine's tables to be its own", owns, err)
	}
	run(t, one, store.NewExport{Payer: "p"}, output("Patient", patient("old", "", "1")))

	if err := execAs(t, at, "", `REASSIGN OWNED BY ingestd_single TO ingestd_owner`); err != nil {
		t.Fatal(err)
	}
	owner := openAs(t, at, ownerRole)
	for range 2 { // it can be run again
		if err := owner.Grant(t.Context(), split, store.Actor{Name: "the DBA"}); err != nil {
			t.Fatal(err)
		}
	}
	s := openAs(t, at, ingestRole)
	if err := s.CheckGrants(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	reader := openAs(t, at, readerRole)
	if n := count(t, reader, `SELECT count(*) FROM fhir.patient`); n != 1 {
		t.Errorf("the reader sees %d patients, want 1", n)
	}
	live(t, s, "p4")
	if n := count(t, owner, `SELECT count(*) FROM ingest.audit_event WHERE action = 'grant' AND actor = 'the DBA'`); n != 2 {
		t.Errorf("%d grants are in the audit, want 2", n)
	}
	err = owner.Grant(t.Context(), store.Roles{Ingest: ownerRole}, store.Actor{})
	if same, ok := errors.AsType[*store.SameRoleError](err); !ok || same.Role != ownerRole {
		t.Errorf("got %v, want one role for two refused", err)
	}
}

// What each role must be refused, whoever it thinks it is.
var forbidden = map[string][]string{
	ingestRole: {
		`UPDATE ingest.audit_event SET actor = 'somebody else'`,
		`DELETE FROM ingest.audit_event`,
		`TRUNCATE ingest.audit_event`,
		`DROP TABLE ingest.audit_event`,
		`ALTER TABLE ingest.audit_event ADD COLUMN more text`,
		`ALTER TABLE ingest.audit_event DISABLE TRIGGER ALL`,
		`CREATE TRIGGER forge BEFORE INSERT ON ingest.audit_event FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
		`CREATE RULE forge AS ON INSERT TO ingest.audit_event DO INSTEAD NOTHING`,
		`INSERT INTO ingest.schema_migration (version, name) VALUES (9999, 'forged')`,
		`DELETE FROM ingest.schema_migration`,
		`UPDATE river.river_migration SET version = version`,
		`TRUNCATE ingest.export CASCADE`,
		`DROP TABLE ingest.quarantine`,
		`ALTER TABLE ingest.export DROP COLUMN lines`,
		`CREATE TABLE ingest.mine (x int)`,
		`CREATE TABLE river.mine (x int)`,
		`CREATE TABLE public.mine (x int)`,
		`TRUNCATE river.river_job`,
		`REINDEX TABLE river.river_job`,
		`CREATE SCHEMA mine`,
		`DROP SCHEMA fhir CASCADE`,
		`CREATE OR REPLACE FUNCTION fhir.as_of(resource_type text, at timestamptz)
			RETURNS TABLE (payer text, id text, version_id text, last_updated timestamptz, patient_id text, resource jsonb, export_id bigint)
			LANGUAGE sql AS 'SELECT NULL::text, NULL::text, NULL::text, NULL::timestamptz, NULL::text, NULL::jsonb, NULL::bigint'`,
		`CREATE ROLE mine`,
		`ALTER ROLE ingestd_reader SUPERUSER`,
		`GRANT ingestd_owner TO ingestd_ingest`,
		`SET ROLE ingestd_owner`,
		`SET ROLE ingestd_reader`,
		`COPY fhir.patient TO '/tmp/x'`,
		`COPY fhir.patient TO PROGRAM 'cat'`,
		`SELECT pg_read_file('PG_VERSION')`,
		`CREATE EXTENSION adminpack`,
	},
	readerRole: {
		`SELECT raw FROM ingest.quarantine`,
		`SELECT diagnostics FROM ingest.outcome`,
		`SELECT * FROM ingest.export`,
		`SELECT * FROM ingest.audit_event`,
		`INSERT INTO ingest.audit_event (actor, source, action, object) VALUES ('forged', 'cli', 'run', 'x')`,
		`SELECT * FROM river.river_job`,
		`SELECT * FROM fhir_history.patient`,
		`SELECT * FROM fhir.as_of('Patient', now())`,
		`CREATE TABLE ingest_stage.mine (x int)`,
		`CREATE TABLE fhir.mine (x int)`,
		`CREATE TABLE public.mine (x int)`,
		`CREATE TEMPORARY TABLE mine (x int)`,
		`CREATE SCHEMA mine`,
		`INSERT INTO fhir.patient SELECT * FROM fhir.patient`,
		`UPDATE fhir.patient SET resource = '{}'`,
		`DELETE FROM fhir.patient`,
		`TRUNCATE fhir.patient`,
		`DROP TABLE fhir.patient`,
		`ALTER TABLE fhir.patient OWNER TO ingestd_reader`,
		`CREATE INDEX ON fhir.patient (id)`,
		`DO $$ BEGIN LOCK TABLE fhir.patient IN ACCESS EXCLUSIVE MODE; END $$`,
		`SELECT * FROM fhir.patient FOR UPDATE`,
		`SET ROLE ingestd_ingest`,
		`SET ROLE ingestd_owner`,
	},
	ownerRole: {
		`CREATE ROLE mine`,
		`CREATE DATABASE mine`,
		`ALTER ROLE ingestd_owner SUPERUSER`,
		`ALTER SYSTEM SET log_statement = 'all'`,
		`SELECT * FROM pg_authid`,
		`COPY ingest.export TO PROGRAM 'cat'`,
		`SELECT pg_read_file('PG_VERSION')`,
		`SET ROLE ingestd_reader`,
	},
}

func TestRoles_can_do_no_more_than_they_need(t *testing.T) {
	t.Parallel()
	at := separated(t, split)
	run(t, openAs(t, at, ingestRole), store.NewExport{Payer: "p"}, output("Patient", patient("a", "", "1")))
	for role, statements := range forbidden {
		for _, sql := range statements {
			if err := execAs(t, at, role, sql); store.SQLState(err) != "42501" {
				t.Errorf("%s: %s: got %v, want permission denied (42501)", role, sql, err)
			}
		}
	}
	for _, sql := range []string{`SELECT * FROM fhir.patient`, `SELECT count(*) FROM fhir.patient GROUP BY payer`} {
		if err := execAs(t, at, readerRole, sql); err != nil {
			t.Errorf("the reader: %s: %v", sql, err)
		}
	}
}

func TestCheckGrants_says_what_is_missing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ undo, want string }{
		{`REVOKE INSERT ON ingest.audit_event FROM ingestd_ingest`, "INSERT on ingest.audit_event"},
		{`REVOKE DELETE ON river.river_job FROM ingestd_ingest`, "DELETE on river.river_job"},
		{`REVOKE USAGE ON SCHEMA ingest FROM ingestd_ingest`, "USAGE on schema ingest"},
		{`REVOKE CREATE ON SCHEMA fhir_history FROM ingestd_ingest`, "CREATE on schema fhir_history"},
		{`REVOKE USAGE ON SEQUENCE river.river_job_id_seq FROM ingestd_ingest`, "USAGE on sequence river.river_job_id_seq"},
		{`ALTER TABLE fhir.patient OWNER TO ingestd_owner`, "ownership of fhir.patient"},
		{`CREATE TABLE ingest.later (x int); REVOKE ALL ON ingest.later FROM ingestd_ingest`, "DELETE on ingest.later"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Parallel()
			at := separated(t, split)
			s := openAs(t, at, ingestRole)
			run(t, s, store.NewExport{Payer: "p"}, output("Patient", patient("a", "", "1")))
			if err := execAs(t, at, ownerRole, tt.undo); err != nil {
				t.Fatal(err)
			}
			_, err := s.Migrate(t.Context())
			err = s.CheckGrants(t.Context(), err)
			missing, ok := errors.AsType[*store.PermissionError](err)
			if !ok || missing.Role != ingestRole || missing.Missing[0] != tt.want {
				t.Fatalf("got %v, want it to say that %s is missing", err, tt.want)
			}
			if !strings.Contains(err.Error(), "ingestd migrate roles --ingest "+ingestRole) {
				t.Errorf("%q does not say what to do", err)
			}
		})
	}
}

func TestCheckGrants_says_who_migrates(t *testing.T) {
	t.Parallel()
	at := testpg.New(t, nil)
	makeRoles(t, at)
	s := openAs(t, at, ingestRole)
	_, err := s.Migrate(t.Context())
	err = s.CheckGrants(t.Context(), err)
	denied, ok := errors.AsType[*store.PermissionError](err)
	if !ok || len(denied.Missing) != 0 || !strings.Contains(err.Error(), "ingestd migrate up") || store.SQLState(err) != "42501" {
		t.Errorf("got %v, want it to say that the owner migrates", err)
	}

	at = separated(t, split)
	// A newer version, by whose migration a table is to come.
	if err := execAs(t, at, ownerRole, `DROP TABLE ingest.audit_event; DELETE FROM ingest.schema_migration WHERE name = 'audit'`); err != nil {
		t.Fatal(err)
	}
	s = openAs(t, at, ingestRole)
	if _, err = s.Migrate(t.Context()); err == nil {
		t.Fatal("the ingest role migrated")
	}
	err = s.CheckGrants(t.Context(), err)
	if denied, ok = errors.AsType[*store.PermissionError](err); !ok || len(denied.Missing) != 0 {
		t.Errorf("got %v, want it to say that the owner migrates", err)
	}
	other := errors.New("the network is down")
	if err := s.CheckGrants(t.Context(), other); !errors.Is(err, other) {
		t.Errorf("got %v, want what was not about permissions as it was", err)
	}
}
