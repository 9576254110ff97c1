package payersim

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestProfiles_are_documented_and_unknown_ones_are_refused(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/payersim.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Profiles() {
		if row := "| `" + p.Name + "` | " + p.About + " |"; !strings.Contains(string(text), row) {
			t.Errorf("docs/payersim.md lacks the row\n%s", row)
		}
	}
	if _, err := New(Options{Patients: 1, Profile: "nobody"}); err == nil || !strings.Contains(err.Error(), "bcda") {
		t.Errorf("an unknown profile: got %v, want an error that lists all", err)
	}
}

// imitate starts a payer with a profile, and returns a token.
func imitate(t *testing.T, name string) (*payer, string) {
	t.Helper()
	p := start(t, Options{Profile: name})
	if err := p.SetFaults(Faults{RetryAfter: -1}); err != nil { // what the token endpoint and polls do is proven elsewhere
		t.Fatal(err)
	}
	return p, p.token("system/*.read")
}

func TestQuirks_of_kick_offs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bcda", "ab2d", "dpc", "oracle"} {
		p, token := imitate(t, name)
		got := p.send(http.MethodPost, fhirPath+"/$export", "{}", bearerOf(token), header("Accept", "application/fhir+json"),
			header("Prefer", "respond-async"))
		expect(t, got, http.StatusMethodNotAllowed, "GET")
	}
	p, token := imitate(t, "dpc")
	expect(t, p.kick("/$export", token, header("Prefer", "respond-async, handling=lenient")), http.StatusBadRequest, "Prefer")

	p, token = imitate(t, "ab2d")
	first := p.kick("/$export", token).Header.Get("Content-Location")
	got := p.kick("/$export", token)
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Content-Location") != first || got.Header.Get("Retry-After") != "" {
		t.Errorf("a second export: got HTTP %d with %v, want 429 that names the first", got.StatusCode, got.Header)
	}
	if got := p.send(http.MethodDelete, first, "", bearerOf(token)); got.StatusCode != http.StatusBadRequest {
		t.Errorf("DELETE: got HTTP %d, want 400", got.StatusCode)
	}
	expect(t, p.kick("/$export", token), http.StatusAccepted, "")

	p, token = imitate(t, "bcda")
	p.kick("/$export", token)
	if got := p.kick("/$export", token); got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") != "0" {
		t.Errorf("a second export: got HTTP %d, Retry-After %q; want 429 and 0", got.StatusCode, got.Header.Get("Retry-After"))
	}

	p, token = imitate(t, "hapi")
	first = p.kick("/$export", token).Header.Get("Content-Location")
	if got := p.kick("/$export", token).Header.Get("Content-Location"); got != first {
		t.Errorf("a repeated request: got %s, want the old job %s", got, first)
	}
	if got := p.kick("/$export", token, header("Cache-Control", "no-cache")).Header.Get("Content-Location"); got == first {
		t.Error("a request past the cache: got the old job")
	}
}

func TestQuirks_of_manifests(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(got answer, manifest map[string]any) bool{
		"bcda": func(got answer, m map[string]any) bool {
			_, err := http.ParseTime(got.Header.Get("Expires"))
			return err != nil && m["JobID"] != nil && !strings.Contains(string(got.body), `"count"`) && got.Close
		},
		"ab2d": func(got answer, _ map[string]any) bool { return strings.Contains(string(got.body), `"sha256:"`) },
		"hapi": func(_ answer, m map[string]any) bool {
			return m["request"] == nil && m["error"] == nil && m["requiresAccessToken"] == nil
		},
		"azure": func(got answer, m map[string]any) bool {
			files, _ := m["output"].([]any)
			return m["requiresAccessToken"] == "true" && len(files)%2 == 0 && len(files) > 0 && got.StatusCode == http.StatusOK
		},
	} {
		p, token := imitate(t, name)
		got := p.send(http.MethodGet, p.kick("/$export", token).Header.Get("Content-Location"), "", bearerOf(token))
		var manifest map[string]any
		if err := json.Unmarshal(got.body, &manifest); err != nil || !check(got, manifest) {
			t.Errorf("%s: %v; got HTTP %d, %v: %s", name, err, got.StatusCode, got.Header, got.body)
		}
	}
}

func TestQuirks_of_files(t *testing.T) {
	t.Parallel()
	file := func(name string) (*payer, string, string) {
		p, token := imitate(t, name)
		m, _ := p.export("/$export?_type=Patient", token)
		return p, m.Output[0].URL, token
	}
	p, address, token := file("dpc")
	expect(t, p.send(http.MethodGet, address, "", bearerOf(token), header("Accept", "application/fhir+ndjson")), http.StatusNotAcceptable, "")
	got := p.send(http.MethodGet, address, "", bearerOf(token), header("Accept", "application/ndjson"))
	if expect(t, got, http.StatusOK, `"Patient"`); got.Header.Get("Content-Type") != "application/ndjson" {
		t.Errorf("Content-Type: got %s", got.Header.Get("Content-Type"))
	}

	p, address, token = file("hapi")
	expect(t, p.send(http.MethodGet, address, "", bearerOf(token), header("Accept", "*/*")), http.StatusOK, `"Binary"`)
	expect(t, p.send(http.MethodGet, address, "", bearerOf(token), header("Accept", "application/fhir+ndjson")), http.StatusOK, `"Patient"`)

	p, address, token = file("oracle")
	p.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	got = p.send(http.MethodGet, address, "", bearerOf(token))
	location := got.Header.Get("Location")
	if got.StatusCode != http.StatusTemporaryRedirect || !strings.Contains(location, "localhost") {
		t.Fatalf("got HTTP %d to %s, want a redirect to another origin", got.StatusCode, location)
	}
	expect(t, p.send(http.MethodGet, location, ""), http.StatusOK, `"Patient"`)
	expect(t, p.send(http.MethodGet, location, "", bearerOf(token)), http.StatusBadRequest, "")
	expect(t, p.send(http.MethodGet, location+"x", ""), http.StatusForbidden, "")
	expect(t, p.send(http.MethodGet, address, ""), http.StatusUnauthorized, "")

	p, address, token = file("bcda")
	got = p.send(http.MethodGet, address, "", bearerOf(token), header("Range", "bytes=10-"))
	expect(t, got, http.StatusOK, `"Patient"`)
}
