package e2e

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
	"ingestd/internal/testpg"
)

// As the documentation has it: the owner migrates and grants, and everything else is done by a role that may do neither.
func TestServe_works_as_the_ingest_role_alone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.url = testpg.New(t, nil) // one that nobody has migrated
	roles, err := os.ReadFile("../../deployments/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	superuser, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = superuser.Close(t.Context()) }()
	if _, err := superuser.Exec(t.Context(), string(roles)); err != nil {
		t.Fatal(err)
	}
	at := s.url
	as := func(role string) {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("user", role)
		u.RawQuery = query.Encode()
		s.url = u.String()
		s.configure("", []payer{s.payer("p", payersim.Options{Patients: 20, Seed: 1})}, "schedule: \"@every 2s\"\njitter: 0s")
	}

	as("ingestd_ingest")
	if _, err := s.run("serve"); err == nil || !strings.Contains(err.Error(), "run 'ingestd migrate up' as the owner") {
		t.Errorf("serve before the owner has migrated: got %v", err)
	}
	as("ingestd_owner")
	if out, err := s.run("migrate", "up"); err != nil || !strings.Contains(out, "applied 0001 control") {
		t.Fatalf("got %q, %v", out, err)
	}
	as("ingestd_ingest")
	if _, err := s.run("serve"); err == nil || !strings.Contains(err.Error(), "run 'ingestd migrate roles --ingest ingestd_ingest' as the owner") {
		t.Errorf("serve before the owner has granted: got %v", err)
	}
	as("ingestd_owner")
	out, err := s.run("migrate", "roles", "--ingest", "ingestd_ingest", "--reader", "ingestd_reader")
	if err != nil || out != "ingestd_ingest may ingest\ningestd_reader may read\n" {
		t.Fatalf("got %q, %v", out, err)
	}

	as("ingestd_ingest")
	conn, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	daemon := s.start("serve")
	s.wait("three exports", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM ingest.export WHERE state = 'published'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n >= 3
	})
	for _, command := range []string{"pause p", "resume p", "status", "exports list", "audit list", "migrate status", "migrate up", "instances list"} {
		if _, err := s.run(strings.Fields(command)...); err != nil {
			t.Error(err)
		}
	}
	s.stop(daemon)
	if log := daemon.log.String(); strings.Contains(log, "42501") || strings.Contains(log, "permission denied") {
		t.Error("the log tells of a right that was missing")
	}
	var patients int
	if _, err := conn.Exec(t.Context(), `SET ROLE ingestd_reader`); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM fhir.patient`).Scan(&patients); err != nil || patients != 20 {
		t.Errorf("the reader sees %d patients, %v, want 20", patients, err)
	}
}
