package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/payersim"
	"ingestd/internal/testpg"
)

// A password that is rotated is read anew by whatever connects: the pools, the engine's listener, commands, psql.
func TestServe_goes_on_when_the_password_is_rotated(t *testing.T) {
	t.Parallel()
	server := testpg.NewSecured(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(server.Exec(ctx, `CREATE ROLE app LOGIN; GRANT CREATE, TEMPORARY ON DATABASE ingestd TO app`))
	s := newSite(t)
	file := filepath.Join(s.dir, "password")
	rotate := func(password string) {
		must(os.WriteFile(file, []byte(password+"\n"), 0o600))
		must(server.Exec(ctx, fmt.Sprintf(`ALTER ROLE app PASSWORD '%s'`, password)))
	}
	rotate("first-password")
	s.url = server.URL(server.Host, "app", "verify-full")
	s.configure("", []payer{s.payer("p", payersim.Options{Patients: 5, Seed: 1})}, "schedule: \"@every 2s\"\njitter: 0s")
	text, err := os.ReadFile(s.config)
	must(err)
	must(os.WriteFile(s.config, []byte(strings.Replace(string(text), "database: {", fmt.Sprintf("database: {password: %q, ", "file:"+file), 1)), 0o600))

	published := func() int {
		n, err := server.Count(ctx, `SELECT count(*) FROM ingest.export WHERE state = 'published'`)
		if err != nil {
			return 0 // not migrated yet
		}
		return n
	}
	daemon := s.start("serve")
	s.wait("an export", func() bool { return published() > 0 })
	rotate("second-password")
	must(server.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'`))
	before := published()
	s.wait("exports after the rotation", func() bool { return published() >= before+2 })
	if strings.Contains(daemon.log.String(), "password authentication failed") {
		t.Error("something connected with a password that is no more")
	}
	if out, err := s.run("migrate", "up"); err != nil || out != "nothing to apply\n" {
		t.Errorf("migrate: got %q, %v", out, err)
	}
	psql := exec.CommandContext(ctx, binary, "psql", "--config", s.config, "--", "--no-psqlrc", "-Atc",
		"SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
	if out, err := psql.CombinedOutput(); err != nil || string(out) != "app|t\n" {
		t.Errorf("psql: got %q, %v", out, err)
	}
	s.stop(daemon)
	for _, password := range []string{"first-password", "second-password"} {
		if strings.Contains(daemon.log.String(), password) {
			t.Error("the log holds a password")
		}
	}
}
