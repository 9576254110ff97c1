//go:build faults

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
	"ingestd/internal/testpg"
)

// smallDisk mounts a disk in memory of so many MiB, until the test ends.
func smallDisk(t *testing.T, mebibytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir, err := os.MkdirTemp("", "disk-")
	if err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mebibytes), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, output)
	}
	t.Cleanup(func() {
		if output, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, output)
		}
		_ = os.Remove(dir)
	})
	return dir
}

// fill takes all room that a disk has left, until it is called again.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for size := len(block); size >= 512; size /= 2 {
		for {
			if _, err := f.Write(block[:size]); err != nil {
				break
			}
		}
	}
	return func() { _ = os.Remove(name) }
}

func TestServe_waits_while_the_database_has_no_room(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "")
	disk := smallDisk(t, 48)
	if c.account != nil {
		if err := os.Chown(disk, int(c.account.Uid), int(c.account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	c.exec("postgres", "CREATE TABLESPACE small LOCATION '"+disk+"'")
	s := c.site("TABLESPACE small")
	p := s.slowly()
	s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
	daemon := s.start("serve")
	s.ask(t, p)
	s.atWork()
	before := s.rows(t, p)
	free := fill(t, disk)
	s.wait("a word of it", func() bool { return strings.Contains(daemon.log.String(), "53100") })
	if now := s.rows(t, p); trimTypes(now) != trimTypes(before) {
		t.Errorf("readers see part of an export:\n%s", now)
	}
	free()
	s.settled(t, p, daemon, false)
}

func TestServe_stops_loading_while_the_network_to_the_database_stands_still(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "")
	s := c.site("")
	front := newProxy(t, c.address())
	p := s.slowly()
	s.url = databaseAt(front.address(), "site")
	s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
	daemon := s.start("serve")
	s.ask(t, p)
	s.atWork()
	tokens := p.sim.Stats().TokensIssued
	front.stand(true)
	began := time.Now()
	sent, since := p.sim.Stats().FileBytes, time.Now()
	s.wait("the downloads to end", func() bool {
		if now := p.sim.Stats().FileBytes; now != sent {
			sent, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	t.Logf("the last byte was read %s after the network stood still", since.Sub(began).Round(100*time.Millisecond))
	// What the server thinks of the daemon's connections is not the daemon's to know: they are gone.
	c.exec("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ingestd'")
	lines := s.staged()
	s.wait("some time", func() bool { return time.Since(began) > 30*time.Second })
	if now := s.staged(); now != lines {
		t.Errorf("%d lines were staged without a lock", now-lines)
	}
	front.stand(false)
	s.settled(t, p, daemon, false)
	if now := p.sim.Stats().TokensIssued; now > tokens+1 {
		t.Errorf("%d tokens were fetched meanwhile", now-tokens)
	}
}

// role makes a role without rights beyond its own database, which the daemon then is.
func (s *site) role(t *testing.T, name, options string) {
	t.Helper()
	err := execute(t.Context(), s.direct(), "CREATE ROLE "+name+" LOGIN "+options,
		`DO $$ DECLARE n text; BEGIN
			SELECT current_database() INTO n;
			EXECUTE format('ALTER DATABASE %I OWNER TO `+name+`', n);
		END $$`)
	if err != nil {
		t.Fatal(err)
	}
	s.url = strings.Replace(s.url, "user=ingestd", "user="+name, 1)
}

func TestServe_goes_on_when_there_are_connections_again(t *testing.T) {
	t.Parallel()
	s := newSiteAt(t, testpg.New(t, nil))
	const limit = 20
	s.role(t, "limited", "CONNECTION LIMIT "+decimal(limit))
	p := s.slowly()
	s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
	if _, err := s.run("migrate", "up"); err != nil {
		t.Fatal(err)
	}
	daemon := s.start("serve")
	s.ask(t, p)
	s.atWork()
	// All connections that the role may have are taken, and the daemon's are ended, until it has none.
	var taken []*pgx.Conn
	var group sync.WaitGroup
	s.wait("all connections to be taken", func() bool {
		s.number(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE usename = 'limited' AND application_name = 'ingestd' AND datname = current_database()`)
		for range limit {
			if conn, err := pgx.Connect(t.Context(), s.url); err == nil {
				taken = append(taken, conn)
			}
		}
		return s.number(`SELECT count(*) FROM pg_stat_activity WHERE usename = 'limited' AND application_name = 'ingestd'`) == 0
	})
	s.wait("a word of it", func() bool { return strings.Contains(daemon.log.String(), "53300") })
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		response, err := http.Get(s.admin(daemon) + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: got HTTP %d, want %d: it is degraded, and not dead", path, response.StatusCode, want)
		}
	}
	for _, conn := range taken {
		group.Go(func() { _ = conn.Close(t.Context()) })
	}
	group.Wait()
	s.settled(t, p, daemon, false)
}

func TestServe_names_what_the_database_forbids_and_fails_the_export(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, set, want string }{
		{"21 no permission", `REVOKE ALL ON SCHEMA fhir FROM forbidden1`, "permission denied for schema fhir"},
		{"21 no schema", `ALTER SCHEMA fhir RENAME TO hidden`, `schema "fhir" does not exist`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSiteAt(t, testpg.New(t, nil))
			role := map[bool]string{true: "forbidden1", false: "forbidden2"}[strings.Contains(test.set, "forbidden1")]
			s.role(t, role, "")
			p := s.payer("acme", payersim.Options{Patients: 5, Seed: 41})
			s.configure("", []payer{p}, slowExtra)
			if _, err := s.run("migrate", "up"); err != nil {
				t.Fatal(err)
			}
			daemon := s.start("serve")
			s.wait("readiness", func() bool { return strings.Contains(daemon.log.String(), "engine started") })
			if err := execute(t.Context(), s.direct(), test.set); err != nil {
				t.Fatal(err)
			}
			// A command of its own would look at its role's rights first, and refuse.
			if out, err := s.run("run", p.name, "--detach", "--full", "--server", s.admin(daemon)); err != nil {
				t.Fatalf("ask the daemon: %v\n%s", err, out)
			}
			s.reaches("failed")
			var code, text, hint string
			err := s.db.QueryRow(t.Context(), `SELECT error_code, error, hint FROM ingest.export`).Scan(&code, &text, &hint)
			if err != nil {
				t.Fatal(err)
			}
			if code != "postgres_forbidden" || !strings.Contains(text, test.want) || !strings.Contains(text, role) || hint == "" {
				t.Errorf("it failed with %s: %s (%s), want the object, and the role %s", code, text, hint, role)
			}
			s.stop(daemon)
		})
	}
}

func TestServe_goes_on_when_a_read_only_database_is_writable_again(t *testing.T) {
	t.Parallel()
	s := newSiteAt(t, testpg.New(t, nil))
	p := s.slowly()
	s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
	if _, err := s.run("migrate", "up"); err != nil {
		t.Fatal(err)
	}
	daemon := s.start("serve")
	s.ask(t, p)
	s.atWork()
	// As a server is that its operator, or a full disk's guard, has made read-only: what is connected is connected anew.
	writable := func(yes string) {
		t.Helper()
		err := execute(t.Context(), s.direct(), `SET default_transaction_read_only = off`,
			`DO $$ DECLARE n text; BEGIN
				SELECT current_database() INTO n;
				EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = `+yes+`', n);
			END $$`,
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ingestd'`)
		if err != nil {
			t.Fatal(err)
		}
	}
	writable("on")
	s.wait("a word of it", func() bool { return strings.Contains(daemon.log.String(), "25006") })
	writable("off")
	s.db.Reset()
	s.settled(t, p, daemon, false)
}

func TestMigrate_of_several_processes_at_once_migrates_once(t *testing.T) {
	t.Parallel()
	s := newSiteAt(t, testpg.New(t, nil))
	s.configure("", nil, "")
	errs := make([]error, 4)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { _, errs[i] = s.run("migrate", "up") })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	n, newest := s.number(`SELECT count(*) FROM ingest.schema_migration`), s.number(`SELECT max(version) FROM ingest.schema_migration`)
	if n != newest || n == 0 {
		t.Errorf("%d migrations are recorded, up to %d", n, newest)
	}
}
