package payersim

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKey is a private key and its public half as a JWK.
type testKey struct {
	kid, alg string
	private  crypto.PrivateKey
	jwk      map[string]any
}

var (
	keysMu sync.Mutex
	keys   = map[string]*testKey{}
)

// keyFor makes one key per algorithm and test binary.
func keyFor(t testing.TB, alg string) *testKey {
	t.Helper()
	keysMu.Lock()
	defer keysMu.Unlock()
	if keys[alg] == nil {
		keys[alg] = newKey(t, alg, "kid-"+alg)
	}
	return keys[alg]
}

func newKey(t testing.TB, alg, kid string) *testKey {
	t.Helper()
	if strings.HasPrefix(alg, "RS") {
		return rsaKey(t, alg, kid, 2048)
	}
	curve := curves[alg]
	private, err := ecdsa.GenerateKey(curve.curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
	return &testKey{kid: kid, alg: alg, private: private, jwk: map[string]any{
		"kty": "EC", "kid": kid, "alg": alg, "use": "sig", "crv": curve.name, "x": b64(x), "y": b64(y),
	}}
}

func rsaKey(t testing.TB, alg, kid string, bits int) *testKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return &testKey{kid: kid, alg: alg, private: private, jwk: map[string]any{
		"kty": "RSA", "kid": kid, "alg": alg, "use": "sig",
		"n": b64(private.N.Bytes()), "e": b64(big.NewInt(int64(private.E)).Bytes()),
	}}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// set is a JWK Set of the keys.
func set(keys ...*testKey) []byte {
	list := make([]any, len(keys))
	for i, k := range keys {
		list[i] = k.jwk
	}
	text, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(err)
	}
	return text
}

// payer is a simulated payer under test, over real HTTP.
type payer struct {
	*Server
	t    testing.TB
	url  string
	key  *testKey
	http *http.Client
}

const testClient = "https://client.example.org/ingest?id=1"

// start runs a payer with one client; its key is ES384.
func start(t testing.TB, o Options) *payer {
	t.Helper()
	key := keyFor(t, "ES384")
	if o.DataDir == "" && o.Patients == 0 {
		o.Patients, o.Seed = 10, 4
	}
	o.Clients = append(o.Clients, Client{ID: testClient, JWKS: set(key)})
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &payer{Server: s, t: t, url: server.URL, key: key, http: &http.Client{Transport: transport}}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// send makes a request; edit may change it.
func (p *payer) send(method, address, body string, edit ...func(*http.Request)) answer {
	p.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = p.url + address
	}
	req, err := http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range edit {
		e(req)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, address, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp, text, err}
}

// header sets a header of a request.
func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// claims are those of a correct assertion.
func (p *payer) claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": testClient, "sub": testClient, "aud": p.url + tokenPath, "jti": secret(),
		"exp": time.Now().Add(4 * time.Minute).Unix(),
	}
}

// sign makes an assertion; headers with a nil value are removed.
func sign(t testing.TB, key *testKey, claims jwt.MapClaims, headers map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(key.alg), claims)
	token.Header["kid"] = key.kid
	maps.Copy(token.Header, headers)
	maps.DeleteFunc(token.Header, func(_ string, value any) bool { return value == nil })
	text, err := token.SignedString(key.private)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p *payer) form(assertion string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "scope": {"system/*.rs"},
		"client_assertion_type": {assertionType}, "client_assertion": {assertion},
	}
}

func (p *payer) postForm(form url.Values, edit ...func(*http.Request)) answer {
	p.t.Helper()
	edit = append([]func(*http.Request){
		header("Content-Type", "application/x-www-form-urlencoded"), header("Accept", "application/json"),
	}, edit...)
	return p.send(http.MethodPost, tokenPath, form.Encode(), edit...)
}

// token gets an access token as it should be got.
func (p *payer) token(scope string) string {
	p.t.Helper()
	form := p.form(sign(p.t, p.key, p.claims(), nil))
	form.Set("scope", scope)
	got := p.postForm(form)
	var doc struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(got.body, &doc); err != nil || got.StatusCode != http.StatusOK {
		p.t.Fatalf("token request: %d %s", got.StatusCode, got.body)
	}
	return doc.AccessToken
}

func bearerOf(token string) func(*http.Request) { return header("Authorization", "Bearer "+token) }

// kick sends a kick-off as it should be sent, unless edited.
func (p *payer) kick(path, token string, edit ...func(*http.Request)) answer {
	p.t.Helper()
	edit = append([]func(*http.Request){
		bearerOf(token), header("Accept", "application/fhir+json"), header("Prefer", "respond-async"),
	}, edit...)
	return p.send(http.MethodGet, fhirPath+path, "", edit...)
}

// export runs a whole export at no delay and returns its manifest and status URL.
func (p *payer) export(path, token string) (manifest, string) {
	p.t.Helper()
	got := p.kick(path, token)
	if got.StatusCode != http.StatusAccepted {
		p.t.Fatalf("kick-off: %d %s", got.StatusCode, got.body)
	}
	statusURL := got.Header.Get("Content-Location")
	return p.manifest(statusURL, token), statusURL
}

func (p *payer) manifest(statusURL, token string) manifest {
	p.t.Helper()
	got := p.send(http.MethodGet, statusURL, "", bearerOf(token), header("Accept", "application/json"))
	var m manifest
	if err := json.Unmarshal(got.body, &m); err != nil || got.StatusCode != http.StatusOK {
		p.t.Fatalf("status: %d %s", got.StatusCode, got.body)
	}
	return m
}

// read downloads the files of a manifest list, checks their counts and returns their lines by manifest type.
func (p *payer) read(list []manifestEntry, token string) map[string][]string {
	p.t.Helper()
	lines := map[string][]string{}
	for _, entry := range list {
		got := p.send(http.MethodGet, entry.URL, "", bearerOf(token), header("Accept-Encoding", "gzip"))
		if got.StatusCode != http.StatusOK || got.err != nil {
			p.t.Fatalf("file %s: %d %s %v", entry.URL, got.StatusCode, got.body, got.err)
		}
		in := strings.Split(strings.TrimSuffix(string(gunzip(p.t, got.body)), "\n"), "\n")
		if len(in) != entry.Count {
			p.t.Errorf("file %s: %d lines, the manifest says %d", entry.URL, len(in), entry.Count)
		}
		lines[entry.Type] = append(lines[entry.Type], in...)
	}
	return lines
}

func gunzip(t testing.TB, body []byte) []byte {
	t.Helper()
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// expect checks status and that the body mentions a text.
func expect(t testing.TB, got answer, status int, mention string) {
	t.Helper()
	if got.StatusCode != status || !strings.Contains(string(got.body), mention) {
		t.Errorf("answer %s: %s\nexpected %d mentioning %q", strconv.Itoa(got.StatusCode), got.body, status, mention)
	}
}
