package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

func TestPayersim_prints_its_address_serves_and_ends_with_its_context(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	jwks, faults := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "faults.yaml")
	writeTestFile(t, jwks, `{"keys":[]}`)
	writeTestFile(t, faults, "export_duration: 3s\n")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{
			"payersim", "--listen", "127.0.0.1:0", "--patients", "5", "--client", "a=" + jwks, "--faults", faults,
		}, strings.NewReader(""), in, &stderr)
		_ = in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no line on standard output: %v, %s", err, stderr.String())
	}
	_, base, found := strings.Cut(strings.TrimSpace(line), "FHIR base ")
	if !found {
		t.Fatalf("first line is %q", line)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/.well-known/smart-configuration", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("discovery answers %d (%v)", resp.StatusCode, err)
	}
	stop()
	if got := <-code; got != exitDone {
		t.Errorf("exit code %d: %s", got, stderr.String())
	}
}

func writeTestFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPayersim_refuses_what_it_cannot_use(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	jwks, faults := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "faults.yaml")
	writeTestFile(t, jwks, `{"keys":[]}`)
	writeTestFile(t, faults, "unknown_fault: 1\n")
	client := []string{"--client", "a=" + jwks}
	for name, tt := range map[string]struct {
		args    []string
		mention string
	}{
		"no client":        {[]string{"--patients", "5"}, "--client"},
		"no data":          {client, "data folder"},
		"both sources":     {append([]string{"--patients", "5", "--data", dir}, client...), "exactly one"},
		"client form":      {[]string{"--patients", "5", "--client", "abc"}, "ID=JWKS"},
		"missing key set":  {[]string{"--patients", "5", "--client", "a=" + jwks + "x"}, "jwks.jsonx"},
		"remote http URL":  {[]string{"--patients", "5", "--client", "a=http://keys.example.org/"}, "https"},
		"unknown fault":    {append([]string{"--patients", "5", "--faults", faults}, client...), "unknown_fault"},
		"missing fault":    {append([]string{"--patients", "5", "--faults", faults + "x"}, client...), "fault file"},
		"empty folder":     {append([]string{"--data", t.TempDir()}, client...), "ndjson"},
		"share over one":   {append([]string{"--patients", "5", "--changes", "2"}, client...), "share"},
		"unknown flag":     {append([]string{"--nosuch", "5"}, client...), "nosuch"},
		"stray arguments":  {append([]string{"--patients", "5", "stray"}, client...), "stray"},
		"fraction seconds": {append([]string{"--patients", "5", "--token-lifetime", "100ms"}, client...), "lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"payersim", "--listen", "127.0.0.1:0"}, tt.args...),
				strings.NewReader(""), &stdout, &stderr)
			if code == exitDone || stdout.Len() > 0 || !strings.Contains(stderr.String(), tt.mention) {
				t.Errorf("exit code %d, output %q, error %q; expected a failure that mentions %q",
					code, stdout.String(), stderr.String(), tt.mention)
			}
		})
	}
}

func TestPayersim_reads_clients_whose_ids_are_URLs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	writeTestFile(t, file, `{"keys":[]}`)
	for text, want := range map[string]payersim.Client{
		"a=" + file:                        {ID: "a", JWKSFile: file},
		"https://c.example/?id=7=" + file:  {ID: "https://c.example/?id=7", JWKSFile: file},
		"a=https://k.example/jwks?x=1":     {ID: "a", JWKSURL: "https://k.example/jwks?x=1"},
		"x=y=http://127.0.0.1:8080/j.json": {ID: "x=y", JWKSURL: "http://127.0.0.1:8080/j.json"},
	} {
		got, err := parseClient(text)
		if err != nil || got.ID != want.ID || got.JWKSFile != want.JWKSFile || got.JWKSURL != want.JWKSURL {
			t.Errorf("%s: %+v (%v)", text, got, err)
		}
	}
}
