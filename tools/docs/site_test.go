package docs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ingestd/internal/testpg"
)

// binary is the ingestd that the pages' commands start.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testpg.Run(func() int {
		dir, err := os.MkdirTemp("", "docs-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "ingestd")
		build := exec.Command("go", "build", "-o", binary, "./cmd/ingestd")
		build.Dir, build.Stderr, build.Env = root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build ingestd:", err)
			return 1
		}
		return m.Run()
	}))
}

// patience bounds every wait; the machine may be slow.
const patience = 8 * time.Minute

// Where things stand in the pages, and on the site that the commands find.
const (
	etc          = "/etc/ingestd"
	keyFile      = etc + "/keys/2026-11.pem"
	adminAddress = "127.0.0.1:8090"
	payerAddress = "127.0.0.1:8180"
)

// site is what the commands of a page find: two payers, a database that holds what they said, and a configuration.
type site struct {
	t     *testing.T
	dir   string // cwd is dir/work, /etc/ingestd is dir/etc
	url   string
	admin string // where the daemon's admin listener is to be
	own   string // where a payersim that the page starts itself is to listen
	hook  string // a webhook that takes everything
	// stranger says that nothing is prepared: no database, no configuration, no ingestd in the PATH.
	stranger bool
}

// newSite makes a site whose database holds two exports of bluecross and one of summit. Where the page generates the key itself, it is
// not there yet.
func newSite(t *testing.T, withKey bool) *site {
	t.Helper()
	s := bareSite(t)
	s.url = testpg.New(t, func(_ context.Context, database string) error { return load(t, database) })
	s.start(withKey)
	return s
}

// bareSite is a directory and free ports.
func bareSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), admin: freeAddress(t), own: freeAddress(t)}
	for _, dir := range []string{"etc/keys", "etc/conf.d", "work", "out", "bin"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// start starts the payers and writes the configuration.
func (s *site) start(withKey bool) {
	s.t.Helper()
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.t.Cleanup(hook.Close)
	s.hook = hook.URL
	// What is registered at the payers is a key that is none of ours until register has run.
	s.run("keys", "generate", "--out", s.path("out/other.pem"))
	s.write("out/registered.json", s.run("keys", "jwks", "--key", s.path("out/other.pem")))
	if withKey {
		s.run("keys", "generate", "--out", s.path("etc/keys/2026-11.pem"), "--kid", "2026-11")
		s.write("out/registered.json", s.run("keys", "jwks", "--key", s.path("etc/keys/2026-11.pem")))
	}
	client := "ingestd-prod=" + s.path("out/registered.json")
	data, err := filepath.Abs("testdata/summit")
	if err != nil {
		s.t.Fatal(err)
	}
	bluecross := startPayer(s.t, "--client", client, "--patients", "50", "--seed", "7", "--changes", "0.1")
	summit := startPayer(s.t, "--client", client, "--data", data, "--fault",
		`bad_lines=[{type: Observation, after_line: 3, raw: '{"resourceType":"Observation","id":"o-8"'}]`)
	s.write("etc/ingestd.yaml", fmt.Sprintf(`database:
  url: env:DATABASE_URL
  indexes: [{name: claim_type, types: [ExplanationOfBenefit], columns: "(resource #>> '{type,coding,0,code}')"}]
admin: {listen: %q, token: "env:INGESTD_ADMIN_TOKEN"}
log: {format: text}
keys: [{id: "2026-11", private_key: "file:%s"}]
notify:
  - {name: chat, url: "env:SLACK_WEBHOOK_URL", template: slack}
  - {name: oncall, url: %q, events: [held, stale]}
defaults:
  auth: {client_id: ingestd-prod}
  limits: {poll_min: 100ms}
payers:
  - name: bluecross
    fhir_url: %s
    export: {level: group, group_id: "42", types: [Patient, Coverage, ExplanationOfBenefit]}
    load: {history: all}
    schedule: "0 2 * * *"
  - name: summit
    fhir_url: %s
    load: {quarantine_max_share: 0.1}
    schedule: "30 2 * * *"
`, s.admin, s.path("etc/keys/2026-11.pem"), s.hook, bluecross, summit))
	if err := os.Symlink(s.path("etc/ingestd.yaml"), s.path("work/ingestd.yaml")); err != nil {
		s.t.Fatal(err)
	}
	repository, err := filepath.Abs(root)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(repository, "deployments"), s.path("work/deployments")); err != nil {
		s.t.Fatal(err)
	}
	// A simulated payer that a page starts listens where no other test's does.
	s.write("bin/ingestd", fmt.Sprintf("#!/bin/sh\ncase $1 in payersim) shift; set -- payersim --listen %s \"$@\";; esac\nexec %s \"$@\"\n",
		s.own, binary))
	if err := os.Chmod(s.path("bin/ingestd"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// load is how the database came to be that the sites are given: bluecross was exported twice, and what differed the second time is in the
// history; summit once. The exports are then dated, so that pages can name instants.
func load(t *testing.T, database string) error {
	s := bareSite(t)
	s.url = database
	s.start(true)
	s.run("migrate", "up")
	for _, payer := range []string{"bluecross", "bluecross", "summit"} {
		s.run("run", payer)
	}
	_, err := s.psql(`
		UPDATE ingest.export AS e SET created_at = created_at + d, kicked_off_at = kicked_off_at + d, manifest_at = manifest_at + d,
			loaded_at = loaded_at + d, finished_at = finished_at + d, cleaned_up_at = cleaned_up_at + d, transaction_at = transaction_at + d
		FROM (SELECT id, at::timestamptz - finished_at AS d FROM ingest.export JOIN (VALUES (1, '2026-02-27 02:04:00Z'),
			(2, '2026-03-02 02:03:00Z'), (3, '2026-03-02 02:34:00Z')) AS dated (export, at) ON export = id) AS shift WHERE e.id = shift.id;
		DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'fhir'::regnamespace AND relkind = 'p' LOOP
				EXECUTE format('UPDATE fhir.%1$I AS r SET ingested_at = finished_at FROM ingest.export AS e WHERE e.id = export_id', name);
				EXECUTE format('UPDATE fhir_history.%1$I AS r SET valid_from = b.finished_at, valid_to = e.finished_at
					FROM ingest.export AS b, ingest.export AS e WHERE b.id = export_id AND e.id = ended_by', name);
			END LOOP;
		END $$;`)
	return err
}

// startPayer starts a simulated payer of its own, and returns its FHIR base.
func startPayer(t *testing.T, args ...string) string {
	t.Helper()
	out := start(t, nil, "", append([]string{"payersim", "--listen", "127.0.0.1:0"}, args...)...)
	line, err := out.ReadString('\n')
	_, base, ok := strings.Cut(strings.TrimSpace(line), "FHIR base ")
	if !ok {
		t.Fatalf("payersim %v: it says %q (%v)", args, line, err)
	}
	return base
}

// start starts ingestd, ends it when the test does, and returns what it prints.
func start(t *testing.T, env []string, dir string, args ...string) *bufio.Reader {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Env, cmd.Dir = writer, env, dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close() // the child has it
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ends is not what is tested
		kill.Stop()
		_ = reader.Close()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("ingestd %s:\n%s", args[0], stderr.String())
		}
	})
	return bufio.NewReader(reader)
}

// serve starts the daemon and waits until it is ready.
func (s *site) serve() {
	s.t.Helper()
	start(s.t, s.env(), s.path("work"), "serve")
	deadline := time.Now().Add(patience)
	for {
		response, err := http.Get("http://" + s.admin + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the daemon is not ready: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // bounded by the deadline
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// here puts the site's places into a text of a page.
func (s *site) here(text string) string {
	return strings.NewReplacer(etc, s.path("etc"), adminAddress, s.admin, payerAddress, s.own).Replace(text)
}

// there is the opposite: what commands print, as a page shows it.
func (s *site) there(text string) string {
	return strings.NewReplacer(s.path("etc"), etc, s.admin, adminAddress, s.own, payerAddress).Replace(text)
}

func (s *site) env() []string {
	if s.stranger {
		env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "INGESTD_") })
		return append(env, "LC_ALL=C.UTF-8", "PSQL_PAGER=")
	}
	env := os.Environ()
	if u, err := url.Parse(s.url); err == nil && s.url != "" { // for Postgres' own programs
		q := u.Query()
		env = append(env, "PGHOST="+q.Get("host"), "PGPORT="+q.Get("port"), "PGUSER="+q.Get("user"))
	}
	return append(env, "PATH="+s.path("bin")+":"+os.Getenv("PATH"), "HOME="+s.dir, "LC_ALL=C.UTF-8", "PAGER=", "PSQL_PAGER=", "TZ=UTC",
		"DATABASE_URL="+s.url, "INGESTD_CONFIG="+s.path("etc/ingestd.yaml"), "INGESTD_ADMIN_TOKEN=of-the-tests", "TOKEN=of-the-tests",
		"SLACK_WEBHOOK_URL="+s.hook)
}

// run runs ingestd to its end, which must be a good one, and returns what it prints.
func (s *site) run(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Dir = s.env(), s.path("work")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("ingestd %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// psql runs SQL.
func (s *site) psql(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", s.url)
	cmd.Stdin, cmd.Env = strings.NewReader(sql), s.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("psql: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), err
}

var handedOut sync.Map

// freeAddress is a loopback address that nobody listens on, and that no other test is given.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		_ = listener.Close()
		if _, taken := handedOut.LoadOrStore(address, true); !taken {
			return address
		}
	}
}
