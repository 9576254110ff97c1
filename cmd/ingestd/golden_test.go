package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
	"ingestd/internal/testpg"
)

// patience bounds every wait of these tests.
const patience = time.Minute

// terminal is a user at a prompt: what they type, and what they see, is written down and compared with a golden file.
type terminal struct {
	t          *testing.T
	dir        string // of the configuration, which is written as DIR
	jwks       []byte
	transcript strings.Builder
	config     string
}

// newTerminal opens a terminal in a folder with a key, and with a database that nobody has migrated.
func newTerminal(t *testing.T) *terminal {
	t.Helper()
	term := &terminal{t: t, dir: t.TempDir()}
	key, err := smartauth.GenerateKey("ES384", "k1")
	if err != nil {
		t.Fatal(err)
	}
	if err := smartauth.WriteKeyFile(filepath.Join(term.dir, "key.pem"), key); err != nil {
		t.Fatal(err)
	}
	if term.jwks, err = smartauth.NewJWKS(key); err != nil {
		t.Fatal(err)
	}
	term.write("database-url", testpg.New(t, nil))
	term.config = filepath.Join(term.dir, "ingestd.yaml")
	return term
}

func (term *terminal) write(name, text string) {
	term.t.Helper()
	if err := os.WriteFile(filepath.Join(term.dir, name), []byte(text), 0o600); err != nil {
		term.t.Fatal(err)
	}
}

// configure writes the configuration of some payers; each is its name and URL, and further YAML on one line.
func (term *terminal) configure(global string, payers ...[3]string) {
	text := fmt.Sprintf("database: {url: \"file:%s\"}\nkeys: [{id: k1, private_key: \"file:%s\"}]\n%s\npayers:\n",
		filepath.Join(term.dir, "database-url"), filepath.Join(term.dir, "key.pem"), global)
	for _, p := range payers {
		text += fmt.Sprintf("  - {name: %s, fhir_url: %q, auth: {client_id: test}, load: {quarantine_max_share: 0.5}, limits: {poll_min: 50ms}%s}\n",
			p[0], p[1], p[2])
	}
	term.write("ingestd.yaml", text)
}

// index puts an index into the configuration.
func (term *terminal) index(index string) {
	term.t.Helper()
	name := filepath.Join(term.dir, "ingestd.yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		term.t.Fatal(err)
	}
	database := regexp.MustCompile(`(?m)^database: \{.*(url: .*)\}$`)
	term.write("ingestd.yaml", database.ReplaceAllString(string(text), "database: {indexes: ["+index+"], $1}"))
}

// hook starts a webhook that answers with the given status, and returns its URL.
func (term *terminal) hook(status int) string {
	term.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	term.t.Cleanup(server.Close)
	return server.URL
}

// payer starts a simulated payer and returns its FHIR base.
func (term *terminal) payer(o payersim.Options) string {
	term.t.Helper()
	o.Clients = []payersim.Client{{ID: "test", JWKS: term.jwks}}
	o.Faults.File.Gzip = "none" // how well instants are compressed differs from run to run
	sim, err := payersim.New(o)
	if err != nil {
		term.t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	term.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := sim.Close(); err != nil {
			term.t.Error(err)
		}
	})
	return server.URL + "/fhir"
}

// usesConfig reports whether a command takes --config.
func usesConfig(args []string) bool {
	cmd, _, err := newRootCommand(io.Discard).Find(args)
	return err == nil && cmd.Flags().Lookup("config") != nil
}

// run types a command; it returns its exit code and output as they came.
func (term *terminal) run(args ...string) (code int, stdout, stderr string) {
	term.t.Helper()
	with := args
	if usesConfig(args) && !slices.Contains(args, "--config") && !slices.Contains(args, "--key") {
		with = append([]string{}, args...)
		rest := 0
		for rest < len(with) && with[rest] != "--" {
			rest++
		}
		with = append(append(append([]string{}, with[:rest]...), "--config", term.config), with[rest:]...)
	}
	return checkCommand(term.t, with...)
}

// types runs a command and writes down what it looked like; the exit code must be the given one.
func (term *terminal) types(want int, args ...string) (stdout string) {
	term.t.Helper()
	code, stdout, stderr := term.run(args...)
	command := make([]string, len(args))
	for i, arg := range args {
		command[i] = arg
		if strings.ContainsAny(arg, " ()*'") || arg == "" {
			command[i] = "'" + arg + "'"
		}
	}
	if code != want {
		term.t.Errorf("ingestd %s: exit %d, want %d\n%s%s", strings.Join(command, " "), code, want, stdout, stderr)
	}
	for _, r := range stdout + stderr {
		if r != '\n' && !unicode.IsPrint(r) {
			term.t.Errorf("ingestd %s: %q reached the terminal", strings.Join(command, " "), r)
		}
	}
	fmt.Fprintf(&term.transcript, "$ ingestd %s\n", strings.Join(command, " "))
	term.transcript.WriteString(stdout)
	if stdout != "" && !strings.HasSuffix(stdout, "\n") {
		term.transcript.WriteString("\n")
	}
	for line := range strings.Lines(stderr) {
		fmt.Fprintf(&term.transcript, "2> %s\n", strings.TrimSuffix(line, "\n"))
	}
	if code != exitDone {
		fmt.Fprintf(&term.transcript, "[exit %d]\n", code)
	}
	term.transcript.WriteString("\n")
	return stdout
}

// note writes a heading into what is written down.
func (term *terminal) note(text string) { fmt.Fprintf(&term.transcript, "# %s\n\n", text) }

// sql changes the database as no command does, to bring about a state.
func (term *terminal) sql(statement string) {
	term.t.Helper()
	if code, _, stderr := term.run("psql", "--", "-q", "-c", statement); code != exitDone {
		term.t.Fatalf("%s: %s", statement, stderr)
	}
}

// forgetMigrations forgets the audit events of the migrations, so that a new one changes no golden file.
func (term *terminal) forgetMigrations() {
	term.t.Helper()
	term.sql("TRUNCATE ingest.audit_event RESTART IDENTITY")
}

// compare compares what was written down with a golden file, by the rules below.
func (term *terminal) compare(name string) {
	term.t.Helper()
	golden(term.t, filepath.Join("testdata", name+".golden"), term.steady(term.transcript.String()))
}

// rules say what differs from run to run, and how it is written down.
var rules = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`this ingestd needs version \d+`), "this ingestd needs version N"},
	{regexp.MustCompile(`^(applied )?00(0[2-9]|[1-9]\d) .*\n`), ""}, // further migrations change nothing
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`(?m)\bin \d+(\.\d+)?(s|ms|µs)(:|$)`), "in TIME$3"},
	{regexp.MustCompile(`\b(\d+d\d+h|\d+h\d+m|\d+m\d+s|\d+s)\b( ago)?`), "AGE$2"},
	{regexp.MustCompile(`(,)[0-9]+\.[0-9]+(e-\d+)?(,)`), "${1}SECONDS$3"},
	{regexp.MustCompile(`("(freshness_)?seconds": ?)[0-9.e-]+`), "${1}SECONDS"},
	{regexp.MustCompile(`\(\d+\.\d MB/s\)`), "(RATE)"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "SERIES"},
	{regexp.MustCompile(`[A-Za-z0-9_-]{43,}`), "BASE64"},
	{regexp.MustCompile(`(?m)^2> \w+: export \d+: (starting|polling|loading|publishing|published).*\n`), ""},
}

// spaces are as wide as the columns of a table happen to be.
var spaces = regexp.MustCompile(`  +`)

func (term *terminal) steady(text string) string {
	text = strings.ReplaceAll(text, term.dir, "DIR")
	if account, err := user.Current(); err == nil {
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(account.Username)+`\b`).ReplaceAllString(text, "USER")
	}
	if host := hostName(); host != "" {
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(host)+`\b`).ReplaceAllString(text, "HOST")
		text = regexp.MustCompile(`HOST/\d+`).ReplaceAllString(text, "HOST/PID")
	}
	paragraphs := strings.Split(text, "\n\n")
	for i, before := range paragraphs {
		var b strings.Builder
		for line := range strings.Lines(before) {
			for _, rule := range rules {
				line = rule.what.ReplaceAllString(line, rule.as)
			}
			b.WriteString(line)
		}
		paragraphs[i] = b.String()
		// Where something differs, columns may be wider or not, the heading's too; elsewhere, and in TestTable, alignment counts.
		if paragraphs[i] != before || volatile.MatchString(before) {
			paragraphs[i] = collapse(paragraphs[i])
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// volatile are the words that stand for what differs from machine to machine.
var volatile = regexp.MustCompile(`\b(DIR|USER|HOST)\b`)

// collapse makes runs of spaces within lines two spaces.
func collapse(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		b.WriteString(line[:indent] + spaces.ReplaceAllString(line[indent:], "  "))
	}
	return b.String()
}

// lockedBuffer is what a process writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// background runs a command until stop is called, which returns its exit code.
func (term *terminal) background(args ...string) (stdout, stderr *lockedBuffer, stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	stdout, stderr = &lockedBuffer{}, &lockedBuffer{}
	done := make(chan int, 1)
	go func() { done <- run(ctx, append(args, "--config", term.config), strings.NewReader(""), stdout, stderr) }()
	stop = sync.OnceValue(func() int {
		cancel()
		select {
		case code := <-done:
			return code
		case <-time.After(patience):
			term.t.Errorf("ingestd %s does not end:\n%s", strings.Join(args, " "), stderr)
			return -1
		}
	})
	term.t.Cleanup(func() { stop() })
	return stdout, stderr, stop
}

// eventually waits until condition holds.
func (term *terminal) eventually(what string, condition func() bool) {
	term.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			term.t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(20 * time.Millisecond) // bounded by the deadline
	}
}
