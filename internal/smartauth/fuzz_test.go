package smartauth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzTokenResponse(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"t","token_type":"bearer","expires_in":300,"scope":"system/*.read"}`,
		`{"access_token":"t","expires_in":"1200","scope":["a","b"]}`,
		`{"error":"invalid_client","error_description":"no"}`, `{"error":{"code":1}}`, `<html>`, ``, `[]`, `{"expires_in":-1e999}`,
	} {
		f.Add([]byte(seed), 200)
		f.Add([]byte(seed), 400)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		response, err := parseTokenResponse(body)
		if err == nil {
			value := response.value.reveal()
			if value == "" || len(value) > maxTokenLength || strings.ContainsAny(value, "\r\n\x00 ") {
				t.Errorf("a token that no header can carry was accepted: %q", value)
			}
			if response.life <= 0 || response.life > lifeMax {
				t.Errorf("life %s", response.life)
			}
		}
		failure := parseErrorResponse(status, http.Header{}, body, time.Now(), "secret")
		if failure.Code == "" || failure.Hint == "" || len([]rune(failure.Error())) > 600 || strings.ContainsAny(failure.Error(), "\r\n") {
			t.Errorf("error %q, hint %q", failure, failure.Hint)
		}
	})
}

func FuzzDiscovery(f *testing.F) {
	for _, seed := range []string{
		`{"token_endpoint":"https://auth.example/token","capabilities":["permission-v2"],"scopes_supported":["system/*.rs"]}`,
		`{"token_endpoint":"../token?x#y"}`, `{"token_endpoint":1}`, `{"token_endpoint":"//x"}`,
		`{"rest":[{"security":{"extension":[{"url":"` + oauthURIs + `","extension":[{"url":"token","valueUri":"/t"}]}]}}]}`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	base, err := url.Parse("https://fhir.example/r4")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, parse := range []func([]byte, *url.URL) (*Discovery, error){parseSMARTConfiguration, parseCapability} {
			found, err := parse(body, base)
			if err != nil {
				continue
			}
			if _, err := parseEndpoint(found.TokenEndpoint); err != nil {
				t.Errorf("endpoint %q was accepted: %v", found.TokenEndpoint, err)
			}
			registration := &Registration{Method: MethodPrivateKeyJWT, Keys: []*Key{testKey()}}
			_ = found.warnings(registration)
			_ = found.scopeSyntax()
		}
	})
}

func FuzzParseKey(f *testing.F) {
	pem, err := testKey().MarshalPEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem)
	for _, seed := range []string{
		`{"kty":"EC","crv":"P-256","d":"AQ"}`, `{"kty":"RSA","n":"AQ","e":"AQAB","d":"AQ","p":"Aw","q":"BQ"}`, `{"keys":[]}`, `{}`,
		"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParseKey("", "", data)
		if err != nil {
			return
		}
		set, err := NewJWKS(key)
		if err != nil {
			t.Fatalf("a key was read that cannot be published: %v", err)
		}
		var parsed struct{ Keys []map[string]json.RawMessage }
		if err := json.Unmarshal(set, &parsed); err != nil || len(parsed.Keys) != 1 || parsed.Keys[0]["d"] != nil {
			t.Errorf("JWK Set %s: %v", set, err)
		}
		if _, err := (assertion{ClientID: "c", Audience: "a", Kid: key.ID(), Now: time.Now()}).sign(key, key.algorithm); err != nil {
			t.Errorf("a key was read that cannot sign: %v", err)
		}
	})
}

func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"system/Patient.read", "system/*.cruds?x=y", "patient/.read", "a/b.c", "system/./.?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, ok := parseScope(text)
		if ok && (parsed.resource == "" || !strings.Contains(text, "/")) {
			t.Errorf("%q parsed as %+v", text, parsed)
		}
	})
}
