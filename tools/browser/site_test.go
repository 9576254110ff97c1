package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: the machine may be slow.
const patience = 90 * time.Second

// adminToken is the token of the daemon under test.
const adminToken = "a-token-of-the-browser-tests-0123456789"

// site is a fleet in all the states that the page shows: a daemon with its Postgres, and payers.
type site struct {
	t      *testing.T
	dir    string
	binary string
	config string
	url    string
	sims   map[string]*process
	bases  map[string]string
	daemon *process
}

// process is a program that runs until it is stopped.
type process struct {
	cmd   *exec.Cmd
	lines chan string
	done  chan struct{}
	mu    sync.Mutex
	text  bytes.Buffer
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, lines: make(chan string, 1000), done: make(chan struct{})}
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
		_ = write.Close()
	}()
	go func() {
		scanner := bufio.NewScanner(read)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			p.mu.Lock()
			p.text.WriteString(scanner.Text() + "\n")
			p.mu.Unlock()
			select {
			case p.lines <- scanner.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() { p.stop() })
	return p
}

// stop ends the program and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// find waits for a line and returns what the expression's group matches in it.
func (p *process) find(t *testing.T, expression string) string {
	t.Helper()
	pattern, deadline := regexp.MustCompile(expression), time.After(patience)
	for {
		select {
		case line := <-p.lines:
			if match := pattern.FindStringSubmatch(line); match != nil {
				return match[1]
			}
		case <-p.done:
			t.Fatalf("%v ended before it said %q:\n%s", p.cmd.Args, expression, p.output())
		case <-deadline:
			t.Fatalf("%v did not say %q:\n%s", p.cmd.Args, expression, p.output())
		}
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// run runs ingestd to its end and returns what it prints.
func (s *site) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append(os.Environ(), "INGESTD_ADMIN_TOKEN="+adminToken)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("ingestd %s: %w: %s", strings.Join(args, " "), err, errors.String())
	}
	return out.String(), err
}

func (s *site) must(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// sim starts a simulated payer; with an address of before it takes that one's place.
func (s *site) sim(name, address string, args ...string) {
	s.t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	all := append([]string{"payersim", "--listen", address, "--client", "ingestd=" + filepath.Join(s.dir, "jwks.json"), "--seed", "7"}, args...)
	s.sims[name] = start(s.t, exec.Command(s.binary, all...))
	s.bases[name] = s.sims[name].find(s.t, `FHIR base (\S+)`)
}

// payer is a payer of the configuration.
type payer struct {
	name, extra string
}

// fleet are the payers beside those that really run: with a past that is written to the database.
var fleet = []payer{
	{"bayside_health", "freshness_slo: 26h"},
	{"cedar_mutual", "freshness_slo: 26h"},
	{"evergreen_plans", "freshness_slo: 36h"},
	{"granite_state", ""},
	{"harbor_point", "freshness_slo: 26h"},
	{"lakeshore_hmo", "freshness_slo: 24h"},
	{"northfield", ""},
	{"prairie_coop", "freshness_slo: 48h"},
	{"sandstone", ""},
	{"tidewater", "freshness_slo: 26h"},
}

// newSite starts everything.
func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, binary: filepath.Join(dir, "ingestd"), sims: map[string]*process{}, bases: map[string]string{}}
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.version=1.4.0", "-o", s.binary, "./cmd/ingestd")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build ingestd: %v\n%s", err, out)
	}
	s.must("keys", "generate", "--out", filepath.Join(dir, "key.pem"), "--kid", "ingestd-2026")
	jwks := s.must("keys", "jwks", "--key", filepath.Join(dir, "key.pem"))
	s.write("jwks.json", jwks)
	s.write("token", adminToken)
	if err := os.Chmod(filepath.Join(dir, "token"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("progress.yaml", "export_duration: 1h\nstatus: {progress: [\"43% of the members\"]}\n")
	s.write("failed.yaml", "kickoff: {answers: [{status: 403, body: '{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"error\","+
		"\"code\":\"forbidden\",\"diagnostics\":\"client is not entitled to group 42\"}]}'}]}\n")
	s.write("bad.yaml", "bad_lines:\n- {type: Patient, after_line: 3, raw: '{\"resourceType\":\"Patient\",\"id\":'}\n"+
		"- {type: Coverage, after_line: 5, raw: '{\"resourceType\":\"Coverage\"}'}\n")

	s.sim("atlas_mutual", "", "--patients", "20")
	s.sim("delta_care", "", "--patients", "600", "--lines-per-file", "400", "--fault", "bytes_per_second=8000")
	s.sim("foothill", "", "--patients", "20", "--faults", filepath.Join(dir, "progress.yaml"))
	s.sim("ironwood", "", "--patients", "20", "--faults", filepath.Join(dir, "failed.yaml"))
	s.sim("juniper_life", "", "--patients", "30")
	s.sim("kestrel", "", "--patients", "20", "--faults", filepath.Join(dir, "bad.yaml"))
	s.configure()
	s.must("migrate", "up", "--config", s.config)
	s.daemon = start(t, s.serve())
	s.url = "http://" + s.daemon.find(t, `msg="admin listener".*address=(\S+)`)
	s.past()
	s.present()
	return s
}

func (s *site) serve() *exec.Cmd { return exec.Command(s.binary, "serve", "--config", s.config) }

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) configure() {
	var b strings.Builder
	fmt.Fprintf(&b, "database: {url: \"embedded:%s\"}\nadmin: {listen: \"127.0.0.1:0\", token: \"file:%s\"}\nlog: {format: text}\n",
		filepath.Join(s.dir, "postgres"), filepath.Join(s.dir, "token"))
	fmt.Fprintf(&b, "keys: [{id: ingestd-2026, private_key: \"file:%s\"}]\njwks: {url: \"https://ingest.example.org/.well-known/jwks.json\"}\npayers:\n",
		filepath.Join(s.dir, "key.pem"))
	hour := 0
	add := func(name, base, extra string) {
		hour++
		at := time.Now().UTC().Add(time.Duration(5+hour%14) * time.Hour) // nothing runs by itself while the tests do
		fmt.Fprintf(&b, "  - name: %s\n    fhir_url: %s\n    auth: {client_id: ingestd}\n    schedule: \"%d %d * * *\"\n", name, base, (hour*17)%60, at.Hour())
		if extra != "" {
			fmt.Fprintf(&b, "    %s\n", extra)
		}
	}
	for _, name := range []string{"atlas_mutual", "delta_care", "foothill", "ironwood", "juniper_life", "kestrel"} {
		extra := "freshness_slo: 26h"
		if name == "kestrel" {
			extra += "\n    load: {quarantine_max_share: 0.1}"
		}
		add(name, s.bases[name], extra)
	}
	for _, p := range fleet {
		add(p.name, "http://127.0.0.1:9/fhir", p.extra)
	}
	s.config = filepath.Join(s.dir, "ingestd.yaml")
	s.write("ingestd.yaml", b.String())
}

// sql changes the database.
func (s *site) sql(text string) {
	s.t.Helper()
	s.must("psql", "--config", s.config, "--", "-q", "-v", "ON_ERROR_STOP=1", "-c", text)
}

// past writes the history of all payers: a run a day, of which some failed.
func (s *site) past() {
	s.sql(`INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_time, transaction_at, created_at, kicked_off_at, manifest_at,
		loaded_at, finished_at, cleaned_up_at, lines, bytes, wire_bytes, inserted, updated, unchanged, error_code, error)
	SELECT payer, CASE WHEN failed THEN 'failed' ELSE 'published' END, CASE WHEN day % 7 = 3 THEN 'full' ELSE 'incremental' END, 'schedule', 'past',
		CASE WHEN failed THEN '' ELSE to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END, CASE WHEN NOT failed THEN at END, at, at + '4s'::interval,
		at + '3 min'::interval, at + '9 min'::interval, at + '9 min 12s'::interval, at + '10 min'::interval,
		CASE WHEN failed THEN 0 ELSE 40000 + n * 211 END, CASE WHEN failed THEN 0 ELSE 260000000 + n * 130000 END, 31000000,
		CASE WHEN failed THEN 0 ELSE 300 + n END, CASE WHEN failed THEN 0 ELSE 1200 + n END, CASE WHEN failed THEN 0 ELSE 38500 + n * 209 END,
		CASE WHEN failed THEN 'server_error' ELSE '' END, CASE WHEN failed THEN 'the payer answered 500' ELSE '' END
	FROM (SELECT payer, day, abs(hashtext(payer)) % 4000 + abs(hashtext(payer || day)) % 90 AS n,
			abs(hashtext(payer || day)) % 100 < CASE WHEN day BETWEEN 2 AND 27 THEN 6 ELSE 0 END AS failed,
			now() - (CASE WHEN payer = 'lakeshore_hmo' THEN day + 2 ELSE day END || ' days')::interval - (abs(hashtext(payer)) % 600 + 30 || ' min')::interval AS at
		FROM unnest(ARRAY['` + strings.Join(s.names(), "','") + `']) AS payer, generate_series(0, 34) AS day
		WHERE payer <> 'sandstone' OR day > 26) AS x ORDER BY at`)
}

func (s *site) names() []string {
	names := []string{"atlas_mutual", "delta_care", "foothill", "ironwood", "juniper_life", "kestrel"}
	for _, p := range fleet {
		names = append(names, p.name)
	}
	return names
}

// present brings payers into their states, through the API as other programs do.
func (s *site) present() {
	s.t.Helper()
	for _, name := range []string{"atlas_mutual", "juniper_life", "kestrel"} {
		s.must("run", name, "--full", "--detach", "--server", s.url)
	}
	s.wait("juniper_life", "idle")
	s.wait("atlas_mutual", "idle")
	s.wait("kestrel", "idle")
	// A payer that suddenly has a fifth of its patients is held back.
	address := strings.TrimSuffix(strings.TrimPrefix(s.bases["juniper_life"], "http://"), "/fhir")
	s.sims["juniper_life"].stop()
	s.sim("juniper_life", address, "--patients", "6")
	for _, name := range []string{"juniper_life", "ironwood", "foothill", "delta_care"} {
		s.must("run", name, "--full", "--detach", "--server", s.url)
	}
	s.must("pause", "northfield", "--server", s.url)
	s.wait("juniper_life", "held")
	s.wait("ironwood", "failed")
	s.wait("foothill", "polling")
	s.wait("delta_care", "loading")
}

// state is what the API says of a payer.
func (s *site) state(name string) string {
	s.t.Helper()
	request, _ := http.NewRequest(http.MethodGet, s.url+"/api/v1/payers", nil)
	request.Header.Set("Authorization", "Bearer "+adminToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.daemon.output())
	}
	defer func() { _ = response.Body.Close() }()
	var all []struct{ Payer, State string }
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range all {
		if p.Payer == name {
			return p.State
		}
	}
	return "no such payer"
}

func (s *site) wait(name, state string) {
	s.t.Helper()
	eventually(s.t, name+" is "+state, func() bool {
		is := s.state(name)
		if is == "failed" && state != is {
			s.t.Fatalf("%s failed:\n%s", name, s.must("status", "--server", s.url))
		}
		return is == state
	})
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
