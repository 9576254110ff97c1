package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ingestd/internal/notify"
)

// runNotify runs ingestd with a configuration of the given targets.
func runNotify(t *testing.T, targets string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ingestd.yaml")
	text := "database: {url: env:DATABASE_URL}\npayers: []\nnotify:\n" + targets
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code = run(t.Context(), append(args, "--config", path), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestNotifyTest_sends_a_signed_event_and_prints_what_came_back(t *testing.T) {
	t.Setenv("HOOK_SECRET", "k3y")
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if err := notify.Verify([]byte("k3y"), r.Header.Get(notify.SignatureHeader), body, time.Now()); err != nil && r.URL.Path == "/signed" {
			t.Error(err)
		}
		bodies = append(bodies, string(body))
		if r.URL.Path == "/refuses" {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprint(w, "said \x1b[31mso\n")
	}))
	defer server.Close()
	targets := fmt.Sprintf(`
  - {name: signed, url: %[1]q, secret: env:HOOK_SECRET}
  - {name: refuses, url: %[2]q, template: slack}
`, server.URL+"/signed", server.URL+"/refuses?key=HUNTER2")
	for _, test := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
		body           string
	}{
		{"a test", []string{"signed"}, exitDone, "signed: HTTP 200 in ", "", `"event":"test"`},
		{"an example", []string{"signed", "--event", "held"}, exitDone, "signed: HTTP 200 in ", "", `"ghosts":400`},
		{"a refusal", []string{"refuses"}, exitFailed, "refuses: HTTP 403 in ", "HTTP 403", `{"text":`},
		{"no such target", []string{"other"}, exitUsage, "", "expected one of signed, refuses", ""},
		{"no such event", []string{"signed", "--event", "x"}, exitUsage, "", "expected test, failed", ""},
		{"no target", nil, exitUsage, "", "expected the name of a target", ""},
	} {
		bodies = nil
		code, stdout, stderr := runNotify(t, targets, append([]string{"notify", "test"}, test.args...)...)
		if code != test.code || !strings.HasPrefix(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%s: got %d, %q, %q", test.name, code, stdout, stderr)
		}
		if strings.ContainsRune(stdout, '\x1b') || strings.Contains(stdout+stderr, "HUNTER2") {
			t.Errorf("%s: prints a control character or the URL: %q %q", test.name, stdout, stderr)
		}
		if got := strings.Join(bodies, ""); !strings.Contains(got, test.body) || (test.body == "") != (got == "") {
			t.Errorf("%s: sent %q, want %q in it", test.name, got, test.body)
		}
	}
}

func TestCheck_tries_the_templates_of_notify(t *testing.T) {
	t.Parallel()
	code, _, stderr := runNotify(t, `  - {name: own, url: "https://hooks.example.org", body: "{{.Export.ID}}"}`+"\n", "check")
	if code != exitUsage || !strings.Contains(stderr, "notify target own: event stale") {
		t.Errorf("got %d, %q, want that the template does not fit", code, stderr)
	}
	code, stdout, stderr := runNotify(t, `  - {name: own, url: "https://hooks.example.org/HUNTER2", payers: [], events: [held]}`+"\n", "check")
	if code != exitDone || !strings.Contains(stdout, "own  held") || strings.Contains(stdout, "HUNTER2") {
		t.Errorf("got %d, %q, %q, want a word of the target", code, stdout, stderr)
	}
}
