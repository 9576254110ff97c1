package payersim

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokenFaults_bad_answers_come_in_turn_and_use_up_their_assertions(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{Token: TokenFaults{Answers: []Answer{
		{Times: 2, Status: 429, Headers: map[string]string{"Retry-After": "7", "Content-Type": "text/plain"}, Body: "slow down"},
		{Body: `{"access_token":`, Padding: 200_000},
		{Silence: 20 * time.Millisecond, Status: 502},
	}}}})
	assertion := sign(t, p.key, p.claims(), nil)
	got := p.postForm(p.form(assertion))
	expect(t, got, 429, "slow down")
	if got.Header.Get("Retry-After") != "7" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("headers: %v", got.Header)
	}
	expect(t, p.postForm(p.form(assertion)), 400, "jti")
	for _, want := range []struct{ status, length int }{{429, 9}, {200, 200_016}, {502, 0}} {
		got := p.postForm(p.form(sign(t, p.key, p.claims(), nil)))
		if got.StatusCode != want.status || len(got.body) != want.length {
			t.Errorf("got HTTP %d with %d bytes, want %d with %d", got.StatusCode, len(got.body), want.status, want.length)
		}
	}
	p.token("system/*.rs")
	if got := p.Stats().Faults; got != 4 {
		t.Errorf("faults struck: got %d, want 4", got)
	}
}

func TestTokenFaults_a_lost_answer_granted_a_token_and_a_reset_before_it_did_not(t *testing.T) {
	t.Parallel()
	for reset, issued := range map[string]int64{"unread": 0, "granted": 1} {
		t.Run(reset, func(t *testing.T) {
			t.Parallel()
			p := start(t, Options{Faults: Faults{Token: TokenFaults{Answers: []Answer{{Reset: reset}}}}})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+tokenPath,
				strings.NewReader(p.form(sign(t, p.key, p.claims(), nil)).Encode()))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			response, err := p.http.Do(request)
			if err == nil {
				_ = response.Body.Close()
				t.Fatalf("got HTTP %d, want a broken connection", response.StatusCode)
			}
			if got := p.Stats().TokensIssued; got != issued {
				t.Errorf("tokens issued: got %d, want %d", got, issued)
			}
			p.token("system/*.rs")
		})
	}
}

func TestTokenFaults_the_members_of_a_good_answer_can_be_any(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "faults.yaml")
	text := "token:\n  members: {expires_in: \"1200\", token_type: BEARER, scope: null, refresh_token: never}\n  without_types: [Coverage]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	faults, err := LoadFaults(path)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, Options{Faults: faults})
	got := p.postForm(p.form(sign(t, p.key, p.claims(), nil)))
	var answer map[string]any
	if err := json.Unmarshal(got.body, &answer); err != nil {
		t.Fatal(err)
	}
	_, hasScope := answer["scope"]
	if answer["expires_in"] != "1200" || answer["token_type"] != "BEARER" || hasScope || answer["refresh_token"] != "never" {
		t.Errorf("token answer: %s", got.body)
	}
	token, _ := answer["access_token"].(string)
	expect(t, p.kick("/$export?_type=Coverage", token), http.StatusForbidden, "Coverage")
	expect(t, p.kick("/$export?_type=Patient", token), http.StatusAccepted, "")
}

func TestTokenFaults_that_make_no_sense_are_refused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		faults  TokenFaults
		mention string
	}{
		{TokenFaults{Answers: []Answer{{}, {Reset: "later"}}}, "answers[1].reset"},
		{TokenFaults{Answers: []Answer{{Padding: -1}}}, "answers[0]"},
		{TokenFaults{Answers: []Answer{{Status: 99}}}, "from 200 to 599"},
		{TokenFaults{RefusedStatus: 1000}, "refused_status"},
		{TokenFaults{Discovery: DocumentFaults{Status: 1}}, "discovery.status"},
	} {
		err := Faults{Token: tt.faults}.check()
		if err == nil || !strings.Contains(err.Error(), tt.mention) {
			t.Errorf("%+v: got %v, want an error that mentions %s", tt.faults, err, tt.mention)
		}
	}
}

func TestTOK6_a_client_with_a_secret_proves_itself_by_it_in_its_own_form_only(t *testing.T) {
	t.Parallel()
	const secret = "a:b%+c d"
	p := start(t, Options{Clients: []Client{
		{ID: "basic id", Secret: secret},
		{ID: "raw", Secret: secret, RawSecret: true},
		{ID: "post", Secret: secret, SecretInForm: true, ExactScope: "clientCreds"},
	}})
	basic := func(id, secret string) func(*http.Request) {
		return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}}
	post := url.Values{"grant_type": {"client_credentials"}, "client_id": {"post"}, "client_secret": {secret}, "scope": {"clientCreds"}}
	with := func(values url.Values, name, value string) url.Values {
		changed := maps.Clone(values)
		changed.Set(name, value)
		return changed
	}
	for _, tt := range []struct {
		name   string
		form   url.Values
		edit   []func(*http.Request)
		status int
	}{
		{"basic, encoded", form, []func(*http.Request){basic(url.QueryEscape("basic id"), url.QueryEscape(secret))}, 200},
		{"basic, empty body", nil, []func(*http.Request){
			basic(url.QueryEscape("basic id"), url.QueryEscape(secret)), func(r *http.Request) { r.Header.Del("Content-Type") },
		}, 200},
		{"basic, not encoded", form, []func(*http.Request){basic("basic id", secret)}, 401},
		{"raw", form, []func(*http.Request){basic("raw", secret)}, 200},
		{"raw, encoded", form, []func(*http.Request){basic("raw", url.QueryEscape(secret))}, 401},
		{"wrong secret", form, []func(*http.Request){basic("raw", "wrong")}, 401},
		{"a secret for a client with keys", form, []func(*http.Request){basic(testClient, secret)}, 401},
		{"post", post, nil, 200},
		{"post, as Basic", form, []func(*http.Request){basic("post", url.QueryEscape(secret))}, 401},
		{"post, another scope", with(post, "scope", "system/*.rs"), nil, 400},
		{"post, another grant", with(post, "grant_type", "password"), nil, 400},
		{"both", with(form, "client_secret", secret), []func(*http.Request){basic("raw", secret)}, 400},
		{"both ways at once", with(p.form(sign(t, p.key, p.claims(), nil)), "client_secret", secret), nil, 400},
		{"no Basic", form, []func(*http.Request){header("Authorization", "Bearer x")}, 400},
	} {
		if got := p.postForm(tt.form, tt.edit...); got.StatusCode != tt.status {
			t.Errorf("%s: got HTTP %d %s, want %d", tt.name, got.StatusCode, got.body, tt.status)
		}
	}
}

func TestKEY5_a_server_may_keep_a_key_set_for_its_max_age(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, "ES384", "first"), newKey(t, "ES384", "second")
	published := set(first)
	hosting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(published)
	}))
	t.Cleanup(hosting.Close)
	p := start(t, Options{
		Clients: []Client{{ID: "remote", JWKSURL: hosting.URL}}, Faults: Faults{Token: TokenFaults{KeepsJWKS: true}},
	})
	ask := func(key *testKey) answer {
		claims := p.claims()
		claims["iss"], claims["sub"] = "remote", "remote"
		return p.postForm(p.form(sign(t, key, claims, nil)))
	}
	expect(t, ask(first), 200, "access_token")
	published = set(first, second)
	expect(t, ask(second), 400, "matches 0 keys")
	if err := p.SetFaults(Faults{}); err != nil {
		t.Fatal(err)
	}
	expect(t, ask(second), 200, "access_token")
}

func TestUSE4_a_refused_token_may_be_answered_with_403_and_nothing(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{Token: TokenFaults{RefusedStatus: 403}}})
	token := p.token("system/*.rs")
	p.RevokeTokens()
	if got := p.kick("/$export", token); got.StatusCode != 403 || len(got.body) != 0 {
		t.Errorf("got HTTP %d %q, want 403 without a body", got.StatusCode, got.body)
	}
	if err := p.SetFaults(Faults{Token: TokenFaults{RefuseAll: true}}); err != nil {
		t.Fatal(err)
	}
	expect(t, p.kick("/$export", p.token("system/*.rs")), 401, "unknown, expired or revoked")
}

func TestDISC_documents_can_be_missing_late_or_odd(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{Token: TokenFaults{
		Discovery:  DocumentFaults{Status: 503, FailFirst: 1, ContentType: "text/html", Members: map[string]any{"token_endpoint": "/t", "capabilities": nil}},
		Capability: DocumentFaults{Body: "<html>"},
	}}})
	wellKnown := fhirPath + "/.well-known/smart-configuration"
	expect(t, p.send(http.MethodGet, wellKnown, ""), 503, "")
	got := p.send(http.MethodGet, wellKnown, "")
	expect(t, got, 200, `"token_endpoint":"/t"`)
	if strings.Contains(string(got.body), "capabilities") || got.Header.Get("Content-Type") != "text/html" {
		t.Errorf("got %s as %s", got.body, got.Header.Get("Content-Type"))
	}
	expect(t, p.send(http.MethodGet, fhirPath+"/metadata", ""), 200, "<html>")
}

func TestJWT3_a_client_behind_a_gateway_has_its_own_audience(t *testing.T) {
	t.Parallel()
	const audience = "https://gateway.example.org/token"
	p := start(t, Options{Clients: []Client{{ID: "gateway", JWKS: set(keyFor(t, "ES384")), Audience: audience}}})
	claims := p.claims()
	claims["iss"], claims["sub"] = "gateway", "gateway"
	expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), 400, audience)
	claims["aud"] = audience
	expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), 200, "access_token")
}
