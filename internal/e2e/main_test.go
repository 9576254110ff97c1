package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// binary is the ingestd that the tests start.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testpg.Run(func() int {
		dir, err := os.MkdirTemp("", "e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "ingestd")
		args := []string{"build", "-o", binary}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "ingestd/cmd/ingestd")...)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build ingestd:", err)
			return 1
		}
		// The tests wait for processes far more than they compute, so that more of them than there are cores may run.
		flag.Parse()
		if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
			if err := flag.Set("test.parallel", strconv.Itoa(testsPerCore*runtime.GOMAXPROCS(0))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}))
}

// testsPerCore is how many tests run at once for each core.
const testsPerCore = 2

// patience bounds every wait of these tests; the machine may be slow, and the race detector slower.
const patience = 3 * time.Minute

func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Migrate(ctx)
	return err
}

// site is a database, payers and the configuration that joins them.
type site struct {
	t      *testing.T
	dir    string
	url    string
	pooled string // where set, the database's URL by a pooler; url is then the direct one
	db     *pgxpool.Pool
	config string
	jwks   []byte
	// running are the processes that must not end by themselves.
	running []*process
}

// payer is a simulated payer and how the configuration names it.
type payer struct {
	name string
	sim  *payersim.Server
	url  string
	// extra is YAML that this payer alone has.
	extra string
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteAt(t, testpg.New(t, migrate))
}

// newSiteAt is newSite on a database that stands.
func newSiteAt(t *testing.T, url string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), url: url}
	key, err := smartauth.GenerateKey("ES384", "test-key")
	if err != nil {
		t.Fatal(err)
	}
	if err := smartauth.WriteKeyFile(filepath.Join(s.dir, "key.pem"), key); err != nil {
		t.Fatal(err)
	}
	if s.jwks, err = smartauth.NewJWKS(key); err != nil {
		t.Fatal(err)
	}
	if s.db, err = pgxpool.New(t.Context(), s.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	return s
}

// payer starts a simulated payer.
func (s *site) payer(name string, o payersim.Options) payer {
	s.t.Helper()
	o.Clients = []payersim.Client{{ID: "ingestd-test", JWKS: s.jwks}}
	sim, err := payersim.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	s.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := sim.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return payer{name: name, sim: sim, url: server.URL}
}

// configure writes the configuration; extra is the YAML of each payer beside what every one has.
func (s *site) configure(global string, payers []payer, extra string) {
	s.t.Helper()
	var b strings.Builder
	database := fmt.Sprintf("{url: %q}", s.url)
	if s.pooled != "" {
		database = fmt.Sprintf("{url: %q, direct_url: %q}", s.pooled, s.url)
	}
	fmt.Fprintf(&b, "database: %s\nadmin: {listen: \"127.0.0.1:0\"}\nlog: {format: text}\n%s\n", database, global)
	fmt.Fprintf(&b, "keys: [{id: test-key, private_key: \"file:%s\"}]\npayers:\n", filepath.Join(s.dir, "key.pem"))
	for _, p := range payers {
		fmt.Fprintf(&b, "  - name: %s\n    fhir_url: %s/fhir\n    auth: {client_id: ingestd-test}\n", p.name, p.url)
		for line := range strings.SplitSeq(strings.TrimSpace(extra+"\n"+p.extra), "\n") {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	s.config = filepath.Join(s.dir, "ingestd.yaml")
	if err := os.WriteFile(s.config, []byte(b.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// process is a running ingestd.
type process struct {
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{} // closed when it has ended
	err  error         // of its end, once done is closed
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (s *site) forget(p *process) {
	s.running = slices.DeleteFunc(s.running, func(other *process) bool { return other == p })
}

// start starts ingestd; it is killed at the end of the test where it still runs, and its log is printed where the test failed.
func (s *site) start(args ...string) *process {
	s.t.Helper()
	return s.startBinary(binary, args...)
}

// startBinary is start of another ingestd.
func (s *site) startBinary(binary string, args ...string) *process {
	s.t.Helper()
	return s.launch(exec.Command(binary, append(args, "--config", s.config)...))
}

// launch is start for a command that a test has made.
func (s *site) launch(cmd *exec.Cmd) *process {
	s.t.Helper()
	p := &process{cmd: cmd, log: &syncBuffer{}, done: make(chan struct{})}
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = p.log
	}
	p.cmd.Stdout = p.log
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	s.running = append(s.running, p)
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		select {
		case <-p.done:
		case <-time.After(patience):
			s.t.Error("the process does not end")
		}
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", cmd, p.log)
		}
	})
	return p
}

// stop sends SIGTERM and wants a clean end.
func (s *site) stop(p *process) {
	s.t.Helper()
	s.forget(p)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			s.t.Fatalf("SIGTERM: %v", p.err)
		}
	case <-time.After(patience):
		s.t.Fatal("the process does not stop")
	}
}

// kill ends the process as kill -9 does.
func (s *site) kill(p *process) {
	s.t.Helper()
	s.forget(p)
	if err := p.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-p.done
}

// run runs ingestd to its end and returns what it printed.
func (s *site) run(args ...string) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "--config", s.config)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("ingestd %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), err
}

// wait waits until condition holds.
func (s *site) wait(what string, condition func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		for _, p := range s.running {
			if p.ended() {
				s.t.Fatalf("ingestd ended while the test waited for %s", what)
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited too long for %s; the exports:\n%s", what, s.dump())
		}
		time.Sleep(20 * time.Millisecond) // bounded by the deadline
	}
}

// number runs a query that yields one number.
func (s *site) number(sql string, args ...any) int64 {
	s.t.Helper()
	var n int64
	if err := s.db.QueryRow(s.t.Context(), sql, args...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (s *site) published(payer string) int64 {
	return s.number(`SELECT count(*) FROM ingest.export WHERE payer = $1 AND state = 'published'`, payer)
}

// dump describes all exports and files, for a failure's message.
func (s *site) dump() string {
	rows, err := s.db.Query(s.t.Context(), `
		SELECT e.id || ' ' || e.payer || ' ' || e.state || ' ' || e.error_code || ' ' || e.error || coalesce(
			(SELECT string_agg(format('%s %s %s/%s', f.ordinal, f.state, f.lines, f.chunks), ', ') FROM ingest.export_file f WHERE f.export_id = e.id), '')
		FROM ingest.export e ORDER BY e.id DESC LIMIT 20`)
	if err != nil {
		return err.Error()
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(append(lines, fmt.Sprint(err)), "\n")
}

// syncBuffer is a buffer that a process writes while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
