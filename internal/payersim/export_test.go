package payersim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestKICK_requests_that_strict_servers_refuse_are_refused(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Groups: []string{"42", "all members"}})
	token := p.token("system/*.rs")
	post := func(body string) func(*http.Request) {
		return func(r *http.Request) {
			*r = *mustRequest(t, r, body)
			r.Header.Set("Content-Type", "application/fhir+json")
		}
	}
	parameter := func(entries string) string { return `{"resourceType":"Parameters","parameter":[` + entries + `]}` }
	for _, tt := range []struct {
		name    string
		path    string
		edit    func(*http.Request)
		status  int
		mention string
	}{
		{"KICK-3 no Accept", "/$export", func(r *http.Request) { r.Header.Del("Accept") }, 400, "Accept"},
		{"KICK-3 other Accept", "/$export", header("Accept", "application/json"), 400, "Accept"},
		{"KICK-3 longer Accept", "/$export", header("Accept", "application/fhir+json, */*"), 400, "Accept"},
		{"KICK-3 no Prefer", "/$export", func(r *http.Request) { r.Header.Del("Prefer") }, 400, "Prefer"},
		{"KICK-3 other Prefer", "/$export", header("Prefer", "return=minimal"), 400, "Prefer"},
		{"KICK-4 unknown type", "/$export?_type=Patient,Spell", nil, 400, "Spell"},
		{"KICK-4 type not held", "/$export?_type=Condition", nil, 400, "Condition"},
		{"KICK-4 empty type", "/$export?_type=", nil, 400, "_type"},
		{"KICK-4 repeated _type", "/$export?_type=Patient&_type=Coverage", nil, 400, "_type"},
		{"KICK-4 unsupported parameter", "/$export?_typeFilter=Patient%3Factive%3Dtrue", nil, 400, "_typeFilter"},
		{"KICK-4 unknown parameter", "/$export?_foo=1", nil, 400, "_foo"},
		{"KICK-5 other format", "/$export?_outputFormat=text/csv", nil, 400, "_outputFormat"},
		{"INC-3 _since without zone", "/$export?_since=2026-01-01T00:00:00", nil, 400, "_since"},
		{"INC-3 _since a date", "/$export?_since=2026-01-01", nil, 400, "_since"},
		{"INC-3 _since with a raw plus", "/$export?_since=2026-01-01T00:00:00+01:00", nil, 400, "_since"},
		{"INC-3 _since in the future", "/$export?_since=" + time.Now().Add(time.Minute).UTC().Format(instantLayout), nil, 400, "future"},
		{"_until before _since", "/$export?_since=2026-01-02T00:00:00Z&_until=2026-01-01T00:00:00Z", nil, 400, "_until"},
		{"KICK-1 unknown group", "/Group/7/$export", nil, 404, "group"},
		{"KICK-1 escaped dollar sign of another operation", "/$exports", nil, 404, "nothing"},
		{"KICK-2 other method", "/$export", func(r *http.Request) { r.Method = http.MethodPut }, 405, "GET, POST"},
		{"KICK-4 POST with commas", "/$export", post(parameter(`{"name":"_type","valueString":"Patient,Coverage"}`)), 400, "commas"},
		{"KICK-4 POST with another value", "/$export", post(parameter(`{"name":"_since","valueString":"2026-01-01T00:00:00Z"}`)), 400, "valueInstant"},
		{
			"KICK-4 POST with two _since", "/$export",
			post(parameter(`{"name":"_since","valueInstant":"2026-01-01T00:00:00Z"},{"name":"_since","valueInstant":"2026-01-02T00:00:00Z"}`)), 400, "more than once",
		},
		{"KICK-4 POST without a name", "/$export", post(parameter(`{"valueString":"Patient"}`)), 400, "no name"},
		{"KICK-4 POST of another resource", "/$export", post(`{"resourceType":"Patient"}`), 400, "Parameters"},
		{"KICK-4 POST with a query", "/$export?_type=Patient", post(parameter("")), 400, "query"},
		{"KICK-4 POST of a form", "/$export", func(r *http.Request) {
			*r = *mustRequest(t, r, "_type=Patient")
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}, 400, "Content-Type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit == nil {
				tt.edit = func(*http.Request) {}
			}
			got := p.kick(tt.path, token, tt.edit)
			expect(t, got, tt.status, tt.mention)
			expect(t, got, tt.status, "OperationOutcome")
		})
	}
	for name, request := range map[string]struct {
		path string
		edit func(*http.Request)
	}{
		"system":   {"/$export", nil},
		"patient":  {"/Patient/$export?_type=Patient,Patient,Coverage&_outputFormat=application%2Ffhir%2Bndjson", nil},
		"group":    {"/Group/all%20members/$export?_since=2026-01-01T00%3A00%3A00%2B01%3A00", nil},
		"escaped":  {"/Patient/%24export", nil},
		"lists":    {"/$export", header("Prefer", "respond-async, handling=lenient")},
		"POST":     {"/$export", post(parameter(`{"name":"_type","valueString":"Patient"},{"name":"_type","valueString":"Coverage"}`))},
		"POST all": {"/Group/42/$export", post(parameter(""))},
	} {
		t.Run("accepted: "+name, func(t *testing.T) {
			if request.edit == nil {
				request.edit = func(*http.Request) {}
			}
			got := p.kick(request.path, token, request.edit)
			if got.StatusCode != http.StatusAccepted || !strings.HasPrefix(got.Header.Get("Content-Location"), p.url+"/") {
				t.Errorf("%d, Content-Location %q, %s", got.StatusCode, got.Header.Get("Content-Location"), got.body)
			}
		})
	}
	if n := p.Stats().KickOffs; n != 7 {
		t.Errorf("%d kick-offs accepted, expected 7", n)
	}
}

// mustRequest is the request as a POST of a body.
func mustRequest(t *testing.T, r *http.Request, body string) *http.Request {
	t.Helper()
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.URL.String(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out.Header = r.Header
	return out
}

func TestKICK_levels_and_scopes_select_the_types(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	everything := []string{"Coverage", "ExplanationOfBenefit", "Organization", "Patient", "Practitioner"}
	compartment := []string{"Coverage", "ExplanationOfBenefit", "Patient"}
	for _, tt := range []struct {
		path, scope string
		types       []string
	}{
		{"/$export", "system/*.rs", everything},
		{"/Patient/$export", "system/*.read", compartment},
		{"/Group/42/$export", "system/*.rs", compartment},
		{"/Group/42/$export?_type=Patient,Practitioner", "system/*.rs", []string{"Patient", "Practitioner"}},
		{"/$export", "system/Patient.rs system/Coverage.rs", []string{"Coverage", "Patient"}},
	} {
		m, _ := p.export(tt.path, p.token(tt.scope))
		var types []string
		for _, entry := range m.Output {
			types = append(types, entry.Type)
		}
		slices.Sort(types)
		if types = slices.Compact(types); !slices.Equal(types, tt.types) {
			t.Errorf("%s with %s exports %v, expected %v", tt.path, tt.scope, types, tt.types)
		}
	}
	narrow := p.token("system/Patient.rs")
	got := p.kick("/$export?_type=Patient,Coverage", narrow)
	expect(t, got, http.StatusForbidden, "Coverage")
	if !strings.Contains(got.Header.Get("WWW-Authenticate"), "insufficient_scope") {
		t.Error("403 without insufficient_scope")
	}
	expect(t, p.kick("/Patient/$export", p.token("system/Practitioner.rs")), http.StatusForbidden, "scopes")
	wide := p.token("system/*.rs")
	m, _ := p.export("/$export?_type=Coverage", wide)
	expect(t, p.send(http.MethodGet, m.Output[0].URL, "", bearerOf(narrow)), http.StatusForbidden, "Coverage")
}

func TestKICK10_lenient_handling_is_told_in_an_outcome_file(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	token := p.token("system/*.rs")
	got := p.kick("/$export?_type=Patient,Condition&_typeFilter=Patient%3Factive", token, header("Prefer", "respond-async,handling=lenient"))
	expect(t, got, http.StatusAccepted, "")
	m := p.manifest(got.Header.Get("Content-Location"), token)
	outcomes := strings.Join(p.read(m.Error, token)["OperationOutcome"], "\n")
	for _, mention := range []string{`"warning"`, "_type=Condition", "_typeFilter"} {
		if !strings.Contains(outcomes, mention) {
			t.Errorf("outcomes do not mention %s: %s", mention, outcomes)
		}
	}
	if len(m.Output) != 1 || m.Output[0].Type != "Patient" {
		t.Errorf("output %v, expected Patient only", m.Output)
	}
}

func TestPOLL_status_goes_from_progress_to_manifest_and_refuses_hasty_polls(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{ExportDuration: 1500 * time.Millisecond, RetryAfter: 800 * time.Millisecond}})
	token := p.token("system/*.rs")
	accepted := p.kick("/$export", token)
	statusURL := accepted.Header.Get("Content-Location")
	got := p.send(http.MethodGet, statusURL, "", bearerOf(token))
	expect(t, got, http.StatusAccepted, "")
	if got.Header.Get("Retry-After") != "1" || !strings.Contains(got.Header.Get("X-Progress"), "%") {
		t.Errorf("Retry-After %q, X-Progress %q", got.Header.Get("Retry-After"), got.Header.Get("X-Progress"))
	}
	early := p.send(http.MethodGet, statusURL, "", bearerOf(token))
	expect(t, early, http.StatusTooManyRequests, "Retry-After")
	if early.Header.Get("Retry-After") != "1" {
		t.Errorf("429 with Retry-After %q", early.Header.Get("Retry-After"))
	}
	expect(t, p.send(http.MethodGet, statusURL, "", bearerOf(token), header("Accept", "text/html")), http.StatusNotAcceptable, "json")

	deadline := time.Now().Add(20 * time.Second)
	for got.StatusCode != http.StatusOK && time.Now().Before(deadline) {
		got = p.send(http.MethodGet, statusURL, "", bearerOf(token))
	}
	expect(t, got, http.StatusOK, `"requiresAccessToken":true`)
	expires, err := http.ParseTime(got.Header.Get("Expires"))
	if err != nil || time.Until(expires) < 23*time.Hour {
		t.Errorf("Expires %q: %v", got.Header.Get("Expires"), err)
	}
	var m map[string]any
	if err := json.Unmarshal(got.body, &m); err != nil {
		t.Fatal(err)
	}
	if m["request"] != p.url+fhirPath+"/$export" {
		t.Errorf("request %v", m["request"])
	}
	if errs, ok := m["error"].([]any); !ok || len(errs) != 0 {
		t.Errorf("error must be an empty array, is %v", m["error"])
	}
	if _, present := m["deleted"]; present {
		t.Error("deleted in an export without _since")
	}
	if n := p.Stats().EarlyPolls; n < 1 {
		t.Error("no early poll counted")
	}
}

func TestCLN1_DELETE_ends_a_job_and_foreign_clients_see_none(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	if err := p.Register(Client{ID: "foreign", JWKS: set(p.key)}); err != nil {
		t.Fatal(err)
	}
	claims := p.claims()
	claims["iss"], claims["sub"] = "foreign", "foreign"
	foreign := tokenOf(t, p, claims)
	token := p.token("system/*.rs")
	m, statusURL := p.export("/$export", token)
	for _, address := range []string{statusURL, m.Output[0].URL} {
		expect(t, p.send(http.MethodGet, address, "", bearerOf(foreign)), http.StatusNotFound, "no such export")
	}
	expect(t, p.send(http.MethodDelete, statusURL, "", bearerOf(foreign)), http.StatusNotFound, "no such export")
	expect(t, p.send(http.MethodPost, statusURL, "", bearerOf(token)), http.StatusMethodNotAllowed, "GET, DELETE")
	expect(t, p.send(http.MethodDelete, statusURL, "", bearerOf(token)), http.StatusAccepted, "")
	for _, address := range []string{statusURL, m.Output[0].URL} {
		expect(t, p.send(http.MethodGet, address, "", bearerOf(token)), http.StatusNotFound, "no such export")
	}
	expect(t, p.send(http.MethodDelete, statusURL, "", bearerOf(token)), http.StatusNotFound, "no such export")
	expect(t, p.send(http.MethodGet, fhirPath+"/export-status/unknown", "", bearerOf(token)), http.StatusNotFound, "no such export")
	if stats := p.Stats(); stats.Deletes != 1 || stats.OpenJobs != 0 {
		t.Errorf("%d deletes and %d open jobs, expected 1 and 0", stats.Deletes, stats.OpenJobs)
	}
}

func tokenOf(t *testing.T, p *payer, claims jwt.MapClaims) string {
	t.Helper()
	got := p.postForm(p.form(sign(t, p.key, claims, nil)))
	var doc struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(got.body, &doc); err != nil || doc.AccessToken == "" {
		t.Fatalf("token request: %d %s", got.StatusCode, got.body)
	}
	return doc.AccessToken
}

// TestINC1_rounds_over_HTTP follows a payer through full and incremental exports as a client would, and compares with
// the truth.
func TestINC1_rounds_over_HTTP(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Patients: 60, Seed: 8, Changes: 0.15, LinesPerFile: 100})
	token := p.token("system/*.rs")
	held := map[string]string{} // what a client holds
	since := ""
	for round := range 5 {
		path := "/$export"
		if since != "" {
			path += "?_since=" + url.QueryEscape(since)
		}
		m, _ := p.export(path, token)
		changed := 0
		for resourceType, lines := range p.read(m.Output, token) {
			for _, line := range lines {
				key := resourceType + "/" + scanLine([]byte(line)).id
				if held[key] != line {
					changed++
				}
				held[key] = line
			}
		}
		deleted := 0
		for _, line := range p.read(m.Deleted, token)["Bundle"] {
			var bundle struct {
				ResourceType, Type string
				Entry              []struct{ Request struct{ Method, URL string } }
			}
			if err := json.Unmarshal([]byte(line), &bundle); err != nil || bundle.Type != "transaction" {
				t.Fatalf("deleted bundle %s: %v", line, err)
			}
			for _, entry := range bundle.Entry {
				if _, ok := held[entry.Request.URL]; !ok || entry.Request.Method != "DELETE" {
					t.Errorf("round %d: %v of a resource that the client does not hold", round, entry.Request)
				}
				delete(held, entry.Request.URL)
				deleted++
			}
		}
		truth := map[string]string{}
		err := p.Truth(func(resourceType, id string, line []byte) bool {
			truth[resourceType+"/"+id] = string(line)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if !equalStates(held, truth) {
			t.Errorf("round %d: the client holds %d resources, the payer %d, or their content differs", round, len(held), len(truth))
		}
		if round > 0 && (deleted == 0 || changed == 0) {
			t.Errorf("round %d: %d changed, %d deleted", round, changed, deleted)
		}
		if p.Round() != round {
			t.Errorf("export %d shows round %d", round+1, p.Round())
		}
		since = m.TransactionTime
	}
	full, _ := p.export("/$export", token)
	lines := p.read(full.Output, token)
	n := 0
	for _, list := range lines {
		n += len(list)
	}
	served := strings.Split(strings.TrimSpace(string(p.send(http.MethodGet, "/_sim/truth", "").body)), "\n")
	if n != len(served) {
		t.Errorf("a full export has %d lines, /_sim/truth %d", n, len(served))
	}
	if len(full.Deleted) != 0 {
		t.Error("a full export names deletions")
	}
}

func TestSim_tells_truth_by_type_and_round(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Patients: 40, Seed: 3, Changes: 0.5})
	first := string(p.send(http.MethodGet, "/_sim/truth?type=Patient&type=Coverage", "").body)
	if n := strings.Count(first, "\n"); n != 80 {
		t.Errorf("%d lines of Patient and Coverage, expected 80", n)
	}
	advanced := p.send(http.MethodPost, "/_sim/advance", "")
	expect(t, advanced, http.StatusOK, `"round":1`)
	if got := string(p.send(http.MethodGet, "/_sim/truth?type=Patient&type=Coverage", "").body); got != first {
		t.Error("the truth moved on without an export")
	}
	later := p.send(http.MethodGet, "/_sim/truth?type=Patient&type=Coverage&round=1", "")
	if string(later.body) == first || later.Header.Get("X-Sim-Round") != "1" {
		t.Error("round 1 equals round 0")
	}
	expect(t, p.send(http.MethodGet, "/_sim/truth?round=2", ""), http.StatusBadRequest, "round")
	expect(t, p.send(http.MethodGet, "/_sim/truth?type=Spell", ""), http.StatusBadRequest, "type")
	var stats Stats
	if err := json.Unmarshal(p.send(http.MethodGet, "/_sim/stats", "").body, &stats); err != nil || stats != p.Stats() {
		t.Errorf("/_sim/stats %+v (%v), Stats %+v", stats, err, p.Stats())
	}
}

func TestDISC_discovery_and_capabilities_need_no_token(t *testing.T) {
	t.Parallel()
	p := start(t, Options{BaseURL: "https://payer.example.org/"})
	got := p.send(http.MethodGet, fhirPath+"/.well-known/smart-configuration", "", header("Accept", "application/json"))
	expect(t, got, http.StatusOK, `"token_endpoint":"https://payer.example.org/auth/token"`)
	expect(t, got, http.StatusOK, "private_key_jwt")
	got = p.send(http.MethodGet, fhirPath+"/metadata", "")
	expect(t, got, http.StatusOK, "https://payer.example.org/auth/token")
	expect(t, got, http.StatusOK, "group-export")
	claims := p.claims() // with the address that was dialled, not the one that was published
	expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), http.StatusBadRequest, "aud")
	claims["aud"] = "https://payer.example.org/auth/token"
	expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), http.StatusOK, "access_token")
	expect(t, p.send(http.MethodGet, "/.well-known/smart-configuration", ""), http.StatusNotFound, "nothing")
}

func TestKEY5_key_sets_are_read_anew(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	old, next := newKey(t, "ES256", "old"), newKey(t, "ES256", "next")
	try := func(client string, key *testKey) answer {
		claims := p.claims()
		claims["iss"], claims["sub"] = client, client
		return p.postForm(p.form(sign(t, key, claims, nil)))
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(key *testKey) {
		if err := os.WriteFile(file, set(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(old)
	fetched := 0
	published := set(old)
	served := newKeyServer(t, func(w http.ResponseWriter) {
		fetched++
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(published)
	})
	for _, c := range []Client{{ID: "file", JWKSFile: file}, {ID: "url", JWKSURL: served}} {
		if err := p.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, client := range []string{"file", "url"} {
		expect(t, try(client, old), http.StatusOK, "access_token")
		expect(t, try(client, next), http.StatusBadRequest, "matches 0 keys")
	}
	expect(t, try("url", old), http.StatusOK, "access_token")
	if fetched != 2 { // once at first, once more for the unknown kid, and then from memory
		t.Errorf("the JWKS URL was fetched %d times, expected 2", fetched)
	}
	write(next)
	published = set(next)
	for _, client := range []string{"file", "url"} {
		expect(t, try(client, next), http.StatusOK, "access_token")
		expect(t, try(client, old), http.StatusBadRequest, "matches 0 keys")
	}
}

func TestKEY4_a_JWKS_URL_must_answer_200_itself(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	for status, mention := range map[int]string{302: "302", 404: "404", 500: "500"} {
		id := "client" + strconv.Itoa(status)
		address := newKeyServer(t, func(w http.ResponseWriter) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		if err := p.Register(Client{ID: id, JWKSURL: address}); err != nil {
			t.Fatal(err)
		}
		claims := p.claims()
		claims["iss"], claims["sub"] = id, id
		expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), http.StatusBadRequest, mention)
	}
	for _, address := range []string{"http://keys.example.org/jwks", "ftp://127.0.0.1/", ":"} {
		if err := p.Register(Client{ID: "x", JWKSURL: address}); err == nil {
			t.Errorf("JWKS URL %s was accepted", address)
		}
	}
}

func TestNew_refuses_options_that_contradict_each_other(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i, o := range []Options{
		{},
		{DataDir: dir, Patients: 1},
		{DataDir: dir},
		{DataDir: filepath.Join(dir, "missing")},
		{Patients: -1},
		{Patients: 1, Changes: 1.5},
		{DataDir: dir, Changes: 0.1},
		{Patients: 1, TokenLifetime: time.Millisecond},
		{Patients: 1, TokenLifetime: 1500 * time.Millisecond},
		{Patients: 1, LinesPerFile: -1},
		{Patients: 1, ScopeSyntax: "v3"},
		{Patients: 1, Algorithms: []string{"HS256"}},
		{Patients: 1, Faults: Faults{StatusFailFirst: -1}},
		{Patients: 1, Faults: Faults{BadLines: []BadLine{{Raw: "x"}}}},
		{Patients: 1, Clients: []Client{{ID: "a"}}},
		{Patients: 1, Clients: []Client{{JWKS: []byte("{}")}}},
		{Patients: 1, Clients: []Client{{ID: "a", JWKS: []byte("{}"), JWKSFile: "x"}}},
		{Patients: 1, Clients: []Client{{ID: "a", JWKS: []byte("{}")}, {ID: "a", JWKS: []byte("{}")}}},
		{Patients: 1, Clients: []Client{{ID: "a", JWKS: []byte("{}"), Scopes: "patient/*.rs"}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("options %d were accepted: %s", i, fmt.Sprintf("%+v", o))
		}
	}
}
