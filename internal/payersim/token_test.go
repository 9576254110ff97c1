package payersim

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestKEY1_every_supported_algorithm_gets_a_token(t *testing.T) {
	t.Parallel()
	for _, alg := range allAlgorithms {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			p := start(t, Options{})
			key := keyFor(t, alg)
			if err := p.Register(Client{ID: "other", JWKS: set(key)}); err != nil {
				t.Fatal(err)
			}
			claims := p.claims()
			claims["iss"], claims["sub"], claims["iat"] = "other", "other", time.Now().Unix()
			got := p.postForm(p.form(sign(t, key, claims, nil)))
			expect(t, got, http.StatusOK, `"access_token"`)
			var doc map[string]any
			if err := json.Unmarshal(got.body, &doc); err != nil {
				t.Fatal(err)
			}
			if doc["token_type"] != "bearer" || doc["expires_in"] != 300.0 || doc["scope"] != "system/*.rs" {
				t.Errorf("token answer: %v", doc)
			}
			if got.Header.Get("Cache-Control") != "no-store" {
				t.Error("a token answer must not be cached")
			}
		})
	}
}

func TestTOK1_token_requests_of_another_form_are_refused(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	set := func(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
	add := func(name, value string) func(url.Values) { return func(v url.Values) { v.Add(name, value) } }
	del := func(name string) func(url.Values) { return func(v url.Values) { v.Del(name) } }
	for _, tt := range []struct {
		name    string
		form    func(url.Values)
		request func(*http.Request)
		status  int
		mention string
	}{
		{name: "duplicate scope", form: add("scope", "system/*.rs"), status: 400, mention: "invalid_request"},
		{name: "duplicate assertion", form: add("client_assertion", "x"), status: 400, mention: "invalid_request"},
		{name: "no grant_type", form: del("grant_type"), status: 400, mention: "grant_type"},
		{name: "no scope", form: del("scope"), status: 400, mention: "scope"},
		{name: "no assertion", form: del("client_assertion"), status: 400, mention: "client_assertion"},
		{name: "no assertion type", form: del("client_assertion_type"), status: 400, mention: "client_assertion_type"},
		{name: "other grant", form: set("grant_type", "password"), status: 400, mention: "unsupported_grant_type"},
		{name: "other assertion type", form: set("client_assertion_type", "saml"), status: 400, mention: "invalid_request"},
		{name: "unknown parameter", form: set("resource", "x"), status: 400, mention: "resource"},
		{name: "other client_id", form: set("client_id", "someone"), status: 400, mention: "invalid_client"},
		{name: "Authorization", request: header("Authorization", "Basic eDp5"), status: 400, mention: "Authorization"},
		{name: "query", request: func(r *http.Request) { r.URL.RawQuery = "a=b" }, status: 400, mention: "query"},
		{name: "JSON", request: header("Content-Type", "application/json"), status: 400, mention: "Content-Type"},
		{name: "no Content-Type", request: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 400, mention: "Content-Type"},
		{name: "GET", request: func(r *http.Request) { r.Method = http.MethodGet }, status: 405, mention: "POST"},
		{name: "Accept", request: header("Accept", "text/html"), status: 406, mention: "application/json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			form := p.form(sign(t, p.key, p.claims(), nil))
			if tt.form != nil {
				tt.form(form)
			}
			if tt.request == nil {
				tt.request = func(*http.Request) {}
			}
			got := p.postForm(form, tt.request)
			expect(t, got, tt.status, tt.mention)
			if got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("Content-Type %q of an OAuth error", got.Header.Get("Content-Type"))
			}
		})
	}
	form := p.form(sign(t, p.key, p.claims(), nil))
	form.Set("client_id", testClient)
	expect(t, p.postForm(form), http.StatusOK, "access_token")
	if stats := p.Stats(); stats.TokensIssued != 1 || stats.TokensRefused != 16 {
		t.Errorf("issued %d and refused %d tokens, expected 1 and 16", stats.TokensIssued, stats.TokensRefused)
	}
}

func TestJWT_assertions_that_break_a_rule_are_refused(t *testing.T) {
	t.Parallel()
	p := start(t, Options{})
	claim := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) {
			if value == nil {
				delete(c, name)
			} else {
				c[name] = value
			}
		}
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, tt := range []struct {
		name    string
		claims  func(jwt.MapClaims)
		headers map[string]any
		key     *testKey
		mention string
	}{
		{name: "JWT-1 typ in lower case", headers: map[string]any{"typ": "jwt"}, mention: "typ"},
		{name: "JWT-1 no typ", headers: map[string]any{"typ": nil}, mention: "typ"},
		{name: "JWT-1 no kid", headers: map[string]any{"kid": nil}, mention: "kid"},
		{name: "JWT-1 unknown kid", headers: map[string]any{"kid": "other"}, mention: "matches 0 keys"},
		{name: "JWT-1 unknown header", headers: map[string]any{"x5t": "abc"}, mention: "x5t"},
		{name: "KEY-7 jku not registered", headers: map[string]any{"jku": "https://example.org/jwks"}, mention: "jku"},
		{name: "JWT-2 no iss", claims: claim("iss", nil), mention: "iss"},
		{name: "JWT-2 iss unknown", claims: claim("iss", "someone"), mention: "registered"},
		{name: "JWT-2 sub differs", claims: claim("sub", "someone"), mention: "sub"},
		{name: "JWT-2 no sub", claims: claim("sub", nil), mention: "sub"},
		{name: "JWT-3 aud array", claims: claim("aud", []string{p.url + tokenPath}), mention: "string"},
		{name: "JWT-3 aud with slash", claims: claim("aud", p.url+tokenPath+"/"), mention: "byte for byte"},
		{name: "JWT-3 aud is the base", claims: claim("aud", p.url+fhirPath), mention: "byte for byte"},
		{name: "JWT-3 no aud", claims: claim("aud", nil), mention: "aud"},
		{name: "JWT-4 no exp", claims: claim("exp", nil), mention: "exp"},
		{name: "JWT-4 exp past", claims: claim("exp", in(-time.Second)), mention: "past"},
		{name: "JWT-4 exp too far", claims: claim("exp", in(7*time.Minute)), mention: "5 minutes"},
		{name: "JWT-4 exp a fraction", claims: claim("exp", float64(in(time.Minute))+0.5), mention: "whole"},
		{name: "JWT-4 exp a string", claims: claim("exp", "soon"), mention: "whole"},
		{name: "JWT-5 no jti", claims: claim("jti", nil), mention: "jti"},
		{name: "JWT-5 empty jti", claims: claim("jti", ""), mention: "jti"},
		{name: "JWT-6 nbf ahead", claims: claim("nbf", in(2*time.Minute)), mention: "nbf"},
		{name: "JWT-6 iat far ahead", claims: claim("iat", in(4*time.Minute)), mention: "iat"},
		{name: "JWT-6 unknown claim", claims: claim("scope", "system/*.rs"), mention: "scope"},
		{name: "another key under a known kid", key: newKey(t, "ES384", p.key.kid), mention: "signature"},
		{name: "algorithm of another curve", key: newKey(t, "ES256", p.key.kid), mention: "ES384"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims, key := p.claims(), p.key
			if tt.claims != nil {
				tt.claims(claims)
			}
			if tt.key != nil {
				key = tt.key
			}
			got := p.postForm(p.form(sign(t, key, claims, tt.headers)))
			expect(t, got, http.StatusBadRequest, tt.mention)
			expect(t, got, http.StatusBadRequest, "invalid_client")
		})
	}
	t.Run("unsigned", func(t *testing.T) {
		token := jwt.NewWithClaims(jwt.SigningMethodNone, p.claims())
		token.Header["kid"] = p.key.kid
		text, err := token.SignedString(jwt.UnsafeAllowNoneSignatureType)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, p.postForm(p.form(text)), http.StatusBadRequest, "invalid_client")
	})
	t.Run("HMAC with the public key", func(t *testing.T) {
		token := jwt.NewWithClaims(jwt.SigningMethodHS384, p.claims())
		token.Header["kid"] = p.key.kid
		text, err := token.SignedString(set(p.key))
		if err != nil {
			t.Fatal(err)
		}
		expect(t, p.postForm(p.form(text)), http.StatusBadRequest, "invalid_client")
	})
	t.Run("no JWT", func(t *testing.T) {
		expect(t, p.postForm(p.form("a.b.c")), http.StatusBadRequest, "invalid_client")
	})
	if n := p.Stats().JTIs; n != 0 {
		t.Errorf("%d refused assertions used up a jti", n)
	}
}

func TestJWT5_a_jti_is_good_for_one_request_ever(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{TokenEndpointFailFirst: 1}})
	first := p.form(sign(t, p.key, p.claims(), nil))
	got := p.postForm(first)
	expect(t, got, http.StatusServiceUnavailable, "temporarily_unavailable")
	if got.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	expect(t, p.postForm(first), http.StatusBadRequest, "jti") // the failed attempt has used it up

	claims := p.claims()
	expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), http.StatusOK, "access_token")
	claims["exp"] = time.Now().Add(3 * time.Minute).Unix() // another assertion with the same jti
	expect(t, p.postForm(p.form(sign(t, p.key, claims, nil))), http.StatusBadRequest, "jti")
	if n := p.Stats().JTIs; n != 2 {
		t.Errorf("%d jti used up, expected 2", n)
	}
}

func TestJWT4_exp_is_judged_by_the_payers_clock(t *testing.T) {
	t.Parallel()
	for offset, mention := range map[time.Duration]string{4*time.Minute + time.Second: "past", -2 * time.Minute: "5 minutes"} {
		p := start(t, Options{ClockOffset: offset})
		got := p.postForm(p.form(sign(t, p.key, p.claims(), nil)))
		expect(t, got, http.StatusBadRequest, mention)
		date, err := http.ParseTime(got.Header.Get("Date"))
		if skew := time.Until(date) - offset; err != nil || skew < -3*time.Second || skew > 3*time.Second {
			t.Errorf("Date %q does not show a clock that is %v off", got.Header.Get("Date"), offset)
		}
	}
}

func TestTOK2_scopes_are_understood_cut_and_refused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, syntax, allowed, asked, granted string
	}{
		{"v1", "", "", "system/Patient.read", "system/Patient.read"},
		{"v2", "", "", "system/Patient.rs system/Coverage.rs", "system/Patient.rs system/Coverage.rs"},
		{"everything of v1", "", "", "system/*.*", "system/*.*"},
		{"more letters", "", "", "system/Patient.cruds", "system/Patient.cruds"},
		{"narrower client", "", "system/Patient.rs", "system/Patient.rs system/Coverage.rs", "system/Patient.rs"},
		{"wildcard of a narrower client", "", "system/Patient.rs system/Coverage.read", "system/*.read", "system/Patient.read system/Coverage.read"},
		{"write is not granted", "", "", "system/Patient.read system/Patient.write", "system/Patient.read"},
		{"v1 only", "v1", "", "system/Patient.read", "system/Patient.read"},
		{"v2 for v1 only", "v1", "", "system/Patient.rs", ""},
		{"v1 for v2 only", "v2", "", "system/Patient.read", ""},
		{"letters out of order", "", "", "system/Patient.sr", ""},
		{"letter twice", "", "", "system/Patient.rr", ""},
		{"read without search", "", "", "system/Patient.r", ""},
		{"patient scope", "", "", "patient/Patient.rs", ""},
		{"no permission", "", "", "system/Patient.", ""},
		{"no dot", "", "", "system/Patient", ""},
		{"not held", "", "system/Patient.rs", "system/Coverage.rs", ""},
		{"other words", "", "", "clientCreds", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, Options{ScopeSyntax: tt.syntax})
			if err := p.Register(Client{ID: "scoped", JWKS: set(p.key), Scopes: tt.allowed}); err != nil {
				t.Fatal(err)
			}
			claims := p.claims()
			claims["iss"], claims["sub"] = "scoped", "scoped"
			form := p.form(sign(t, p.key, claims, nil))
			form.Set("scope", tt.asked)
			got := p.postForm(form)
			if tt.granted == "" {
				expect(t, got, http.StatusBadRequest, "invalid_scope")
				return
			}
			expect(t, got, http.StatusOK, `"scope":"`+tt.granted+`"`)
		})
	}
}

func TestKEY_key_sets_that_break_a_rule_verify_nothing(t *testing.T) {
	t.Parallel()
	good := keyFor(t, "ES384")
	changed := func(base *testKey, name string, value any) []byte {
		k := *base
		k.jwk = map[string]any{}
		maps.Copy(k.jwk, base.jwk)
		k.jwk[name] = value
		return set(&k)
	}
	other := newKey(t, "ES256", good.kid)
	small := &testKey{kid: "small", alg: "RS384", private: keyFor(t, "RS384").private, jwk: map[string]any{
		"kty": "RSA", "kid": "small", "n": b64(append([]byte{0xc1}, make([]byte, 127)...)), "e": "AQAB",
	}}
	x, _ := good.jwk["x"].(string)
	for _, tt := range []struct {
		name    string
		keys    []byte
		signer  *testKey
		mention string
	}{
		{"KEY-3 two keys with the kid", set(good, other), good, "matches 2 keys"},
		{"KEY-2 private member", changed(good, "d", "AAAA"), good, "private"},
		{"KEY-2 for encryption", changed(good, "use", "enc"), good, "not for signatures"},
		{"KEY-2 key_ops without verify", changed(good, "key_ops", []string{"sign"}), good, "may not verify"},
		{"KEY-1 other algorithm", changed(good, "alg", "ES512"), good, "ES512"},
		{"KEY-2 short coordinate", changed(good, "x", x[:60]), good, "octets"},
		{"KEY-2 coordinate of no point", changed(good, "x", b64(make([]byte, 48))), good, "no point"},
		{"KEY-2 padded coordinate", changed(good, "x", x+"="), good, "octets"},
		{"KEY-1 RSA of 1024 bits", set(small), small, "2048"},
		{"empty", []byte(`{"keys":[]}`), good, "matches 0 keys"},
		{"no set", []byte(`[]`), good, "not a JWK Set"},
		{"HTML", []byte(`<html>`), good, "not a JWK Set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, Options{})
			if err := p.Register(Client{ID: "c", JWKS: tt.keys}); err != nil {
				t.Fatal(err)
			}
			claims := p.claims()
			claims["iss"], claims["sub"] = "c", "c"
			got := p.postForm(p.form(sign(t, tt.signer, claims, nil)))
			expect(t, got, http.StatusBadRequest, tt.mention)
		})
	}
}

func TestUSE_tokens_are_demanded_as_the_strictest_servers_do(t *testing.T) {
	t.Parallel()
	p := start(t, Options{TokenLifetime: time.Second})
	good := p.token("system/*.rs")
	m, statusURL := p.export("/$export", good)
	addresses := map[string]string{
		http.MethodGet + " " + p.url + fhirPath + "/$export": "kick-off",
		http.MethodGet + " " + statusURL:                     "status",
		http.MethodGet + " " + m.Output[0].URL:               "file",
		http.MethodDelete + " " + statusURL:                  "DELETE",
	}
	refused := func(name string, edit func(*http.Request), challenge string) {
		for address, what := range addresses {
			method, url, _ := strings.Cut(address, " ")
			got := p.send(method, url, "", edit)
			if got.StatusCode != http.StatusUnauthorized || !strings.Contains(string(got.body), "OperationOutcome") ||
				!strings.Contains(got.Header.Get("WWW-Authenticate"), challenge) {
				t.Errorf("%s with %s: %d, WWW-Authenticate %q, %s", what, name, got.StatusCode, got.Header.Get("WWW-Authenticate"), got.body)
			}
		}
	}
	refused("no token", func(*http.Request) {}, "Bearer")
	refused("lower case", header("Authorization", "bearer "+good), "Bearer")
	refused("two spaces", header("Authorization", "Bearer  "+good), "Bearer")
	refused("unknown token", bearerOf("abc"), "invalid_token")
	refused("token in the URL", func(r *http.Request) { r.URL.RawQuery = "access_token=" + good }, "Bearer")

	deadline := time.Now().Add(10 * time.Second)
	for p.send(http.MethodGet, statusURL, "", bearerOf(good)).StatusCode == http.StatusOK && time.Now().Before(deadline) {
	}
	refused("expired token", bearerOf(good), "invalid_token")
	if n := p.Stats().Unauthorized; n != 25 { // the loop above ends with one more
		t.Errorf("%d answers counted as 401, expected 25", n)
	}
	fresh := p.token("system/*.rs")
	p.RevokeTokens()
	refused("revoked token", bearerOf(fresh), "invalid_token")
}
