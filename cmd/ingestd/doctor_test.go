package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// runDoctor runs `ingestd doctor ARGS`.
func runDoctor(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"doctor"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// sickAndHealthy writes a configuration of a payer that knows ingestd, one that does not, and a disabled one.
func sickAndHealthy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key, err := smartauth.GenerateKey("", "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := smartauth.WriteKeyFile(filepath.Join(dir, "key.pem"), key); err != nil {
		t.Fatal(err)
	}
	set, err := smartauth.NewJWKS(key)
	if err != nil {
		t.Fatal(err)
	}
	simulator, err := payersim.New(payersim.Options{Patients: 1, Clients: []payersim.Client{{ID: "known", JWKS: set}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(simulator)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := simulator.Close(); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "ingestd.yaml")
	writeTestFile(t, path, `
database: {url: "postgres://localhost/nobody-connects"}
keys: [{id: k, private_key: file:key.pem}]
defaults: {export: {types: [Patient]}}
payers:
  - {name: healthy, fhir_url: `+server.URL+`/fhir, auth: {client_id: known}}
  - {name: sick, fhir_url: `+server.URL+`/fhir, auth: {client_id: unknown}}
  - {name: away, fhir_url: "https://127.0.0.1:1/fhir", auth: {client_id: known}, enabled: false}
`)
	return path
}

func TestDoctor_prints_findings_with_fixes_and_fails_if_any_payer_does(t *testing.T) {
	t.Parallel()
	path := sickAndHealthy(t)
	code, out, errs := runDoctor(t, "healthy", "--config", path)
	if code != exitDone || errs != "" || !strings.Contains(out, "\n  ok    token       issued") || strings.Contains(out, "fail") {
		t.Errorf("healthy: exit %d, %q\n%s", code, errs, out)
	}
	code, out, errs = runDoctor(t, "--config", path)
	if code != exitFailed || !strings.Contains(errs, "1 of 2 payer(s)") {
		t.Errorf("all: exit %d, %q; want %d, and that one of two failed", code, errs, exitFailed)
	}
	healthy, sick, ok := strings.Cut(out, "\nsick\n")
	if !ok || !strings.HasPrefix(healthy, "healthy\n") || strings.Contains(out, "away") {
		t.Fatalf("want the enabled payers in their order:\n%s", out)
	}
	_, token, ok := strings.Cut(sick, "  fail  token ")
	if !ok || !strings.Contains(token, "invalid_client") || !strings.Contains(token, "\n                    → ") {
		t.Errorf("want the failed token with its fix:\n%s", sick)
	}
	if code, out, _ := runDoctor(t, "away", "--config", path); code != exitFailed || !strings.Contains(out, "fail  tls") {
		t.Errorf("a disabled payer that is named: exit %d\n%s", code, out)
	}
}

func TestDoctor_prints_JSON(t *testing.T) {
	t.Parallel()
	code, out, _ := runDoctor(t, "sick", "--config", sickAndHealthy(t), "--output", "json")
	var examined []struct {
		Payer    string
		Findings []struct{ Check, Level, Detail, Fix string }
	}
	if err := json.Unmarshal([]byte(out), &examined); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if code != exitFailed || len(examined) != 1 || examined[0].Payer != "sick" {
		t.Fatalf("exit %d, %+v", code, examined)
	}
	found := make(map[string]string)
	for _, f := range examined[0].Findings {
		found[f.Check] = f.Level
		if (f.Level == "ok") != (f.Fix == "") || f.Detail == "" {
			t.Errorf("%+v: want a detail, and a fix unless it is ok", f)
		}
	}
	if found["dns"] != "ok" || found["jwks"] != "warn" || found["token"] != "fail" || found["capability"] != "ok" {
		t.Errorf("got %v", found)
	}
}

func TestDoctor_says_what_is_wrong_with_how_it_was_called(t *testing.T) {
	t.Parallel()
	path := sickAndHealthy(t)
	none := filepath.Join(t.TempDir(), "none.yaml")
	writeTestFile(t, none, `
database: {url: "postgres://localhost/x"}
payers: [{name: one, enabled: false, fhir_url: "https://one.example/r4", auth: {method: none}}]
`)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown payer", []string{"nobody", "--config", path}, `no payer "nobody"`},
		{"two payers", []string{"healthy", "sick", "--config", path}, "expected one payer"},
		{"unknown form", []string{"--config", path, "--output", "xml"}, "text, json or csv"},
		{"no configuration", []string{"--config", path + ".missing"}, "missing"},
		{"nothing enabled", []string{"--config", none}, "no enabled payer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := runDoctor(t, test.args...)
			if code != exitUsage || !strings.Contains(errs, test.want) || out != "" {
				t.Errorf("got exit %d, stdout %q, stderr %q; want exit %d and %q", code, out, errs, exitUsage, test.want)
			}
		})
	}
}

func TestDoctor_names_a_key_that_cannot_be_read(t *testing.T) {
	t.Parallel()
	path := sickAndHealthy(t)
	if err := os.Remove(filepath.Join(filepath.Dir(path), "key.pem")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runDoctor(t, "--config", path); code != exitFailed || !strings.Contains(errs, `key "k"`) {
		t.Errorf("a key that is gone: exit %d, %q", code, errs)
	}
}
