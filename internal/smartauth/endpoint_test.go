package smartauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// payer is a FHIR server with its authorization server: strict as the strictest are, with JOSE by a library that is not
// ours, and a memory of every jti.
type payer struct {
	mu       sync.Mutex
	jwks     jose.JSONWebKeySet
	jtis     map[string]bool
	life     any           // expires_in
	skew     time.Duration // of the server's clock
	audience string
	clientID string
	scopes   func(asked string) (granted any, code string)
	before   func(attempt int, w http.ResponseWriter, r *http.Request) bool // true: it has answered
	resource func(w http.ResponseWriter, r *http.Request)
	smart    string // the well-known document; "" is 404
	metadata string

	issued   []string
	revoked  map[string]bool
	attempts int
	forms    []url.Values
	requests []*http.Request

	server *httptest.Server
}

func newPayer(t *testing.T, keys ...*Key) *payer {
	t.Helper()
	p := &payer{jtis: make(map[string]bool), revoked: make(map[string]bool), life: 300, clientID: "ingestd-test"}
	p.publish(t, keys...)
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	p.audience = p.server.URL + "/auth/token"
	p.smart = fmt.Sprintf(`{"token_endpoint": %q, "token_endpoint_auth_methods_supported": ["private_key_jwt"],
		"capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"]}`, p.audience)
	return p
}

// publish registers the keys as a payer does: from the JWK Set that we print.
func (p *payer) publish(t *testing.T, keys ...*Key) {
	t.Helper()
	data, err := NewJWKS(keys...)
	if err != nil {
		t.Fatalf("NewJWKS: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jwks = jose.JSONWebKeySet{}
	if err := json.Unmarshal(data, &p.jwks); err != nil {
		t.Fatalf("the JWK Set cannot be read by go-jose: %v", err)
	}
}

func (p *payer) base() string { return p.server.URL + "/apis/fhir" }

func (p *payer) registration(keys ...*Key) Registration {
	return Registration{Payer: "acme", FHIRURL: p.base(), ClientID: p.clientID, Keys: keys, Types: []string{"Patient"}}
}

func (p *payer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r)
	w.Header().Set("Date", time.Now().Add(p.skew).UTC().Format(http.TimeFormat))
	switch {
	case r.URL.Path == "/apis/fhir/.well-known/smart-configuration" && p.smart != "":
		w.Header().Set("Content-Type", "text/plain") // JSON under another type
		_, _ = w.Write([]byte(p.smart))
	case r.URL.Path == "/apis/fhir/metadata" && p.metadata != "":
		_, _ = w.Write([]byte(p.metadata))
	case r.URL.Path == "/auth/token":
		p.token(w, r)
	case strings.HasPrefix(r.URL.Path, "/apis/fhir/"):
		p.serveResource(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *payer) serveResource(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !slices.Contains(p.issued, token) || p.revoked[token] {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"resourceType":"OperationOutcome"}`))
		return
	}
	if p.resource != nil {
		p.resource(w, r)
		return
	}
	_, _ = w.Write([]byte("resource"))
}

func (p *payer) token(w http.ResponseWriter, r *http.Request) {
	p.attempts++
	if p.before != nil && p.before(p.attempts, w, r) {
		return
	}
	refuse := func(code, why string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": why})
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" ||
		r.Header.Get("Authorization") != "" || r.Header.Get("Accept") != "application/json" {
		refuse("invalid_request", "method, content type, accept, query or authorization")
		return
	}
	if err := r.ParseForm(); err != nil {
		refuse("invalid_request", "form")
		return
	}
	p.forms = append(p.forms, r.PostForm)
	for _, name := range []string{"grant_type", "scope", "client_assertion_type", "client_assertion"} {
		if len(r.PostForm[name]) != 1 {
			refuse("invalid_request", "each parameter once: "+name)
			return
		}
	}
	if len(r.PostForm) != 4 || r.PostForm.Get("grant_type") != "client_credentials" || r.PostForm.Get("client_assertion_type") != assertionType {
		refuse("invalid_request", "extra or wrong parameters")
		return
	}
	if why := p.verify(r.PostForm.Get("client_assertion")); why != "" {
		refuse("invalid_client", why)
		return
	}
	asked := r.PostForm.Get("scope")
	var granted any = asked
	if p.scopes != nil {
		var code string
		if granted, code = p.scopes(asked); code != "" {
			refuse(code, "scopes")
			return
		}
	}
	p.issue(w, granted)
}

func (p *payer) issue(w http.ResponseWriter, granted any) {
	token := fmt.Sprintf("token-%d-of-this-payer", len(p.issued)+1)
	p.issued = append(p.issued, token)
	answer := map[string]any{"access_token": token, "token_type": "bearer", "refresh_token": "never-use-this"}
	if granted != nil {
		answer["scope"] = granted
	}
	if p.life != nil {
		answer["expires_in"] = p.life
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// verify checks an assertion as a strict server does; the answer is what is wrong with it.
func (p *payer) verify(compact string) string {
	algorithms := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
	signature, err := jose.ParseSignedCompact(compact, algorithms)
	if err != nil {
		return "not a JWS: " + err.Error()
	}
	header := signature.Signatures[0].Protected
	if header.ExtraHeaders["typ"] != "JWT" {
		return fmt.Sprintf("typ is %v", header.ExtraHeaders["typ"])
	}
	keys := p.jwks.Key(header.KeyID)
	if len(keys) != 1 {
		return fmt.Sprintf("%d keys have the kid %q", len(keys), header.KeyID)
	}
	if keys[0].Algorithm != header.Algorithm {
		return "alg differs from the key's"
	}
	payload, err := signature.Verify(keys[0])
	if err != nil {
		return "signature: " + err.Error()
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "claims: " + err.Error()
	}
	for name := range claims {
		if !slices.Contains([]string{"iss", "sub", "aud", "exp", "iat", "jti"}, name) {
			return "unexpected claim " + name
		}
	}
	now := time.Now().Add(p.skew)
	exp, _ := claims["exp"].(float64)
	iat, _ := claims["iat"].(float64)
	jti, _ := claims["jti"].(string)
	switch {
	case claims["iss"] != p.clientID || claims["sub"] != p.clientID:
		return "iss or sub"
	case claims["aud"] != p.audience: // a string, not an array
		return fmt.Sprintf("aud is %v", claims["aud"])
	case time.Unix(int64(exp), 0).Before(now):
		return "expired"
	case time.Unix(int64(exp), 0).After(now.Add(300 * time.Second)):
		return "exp is too far ahead"
	case time.Unix(int64(iat), 0).After(now):
		return "iat is in the future"
	case jti == "" || p.jtis[jti]:
		return "jti missing or seen before"
	}
	p.jtis[jti] = true
	return ""
}

func (p *payer) set(change func(*payer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *payer) tokenRequests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts
}

// testKey is made once: tests need a key, not a new one.
var testKey = sync.OnceValue(func() *Key {
	key, err := GenerateKey("ES384", "test-key")
	if err != nil {
		panic(err)
	}
	return key
})

var testRSAKey = sync.OnceValue(func() *Key {
	key, err := GenerateKey("RS384", "test-rsa")
	if err != nil {
		panic(err)
	}
	return key
})

func newTestManager(t *testing.T, options ManagerOptions) *Manager {
	t.Helper()
	m := NewManager(options)
	t.Cleanup(m.Close)
	return m
}

func newTestSource(t *testing.T, m *Manager, registration Registration) *Source {
	t.Helper()
	s, err := m.Source(registration)
	if err != nil {
		t.Fatalf("Source: %v", err)
	}
	return s
}

func mustToken(t *testing.T, s *Source) Token {
	t.Helper()
	token, err := s.Token(t.Context())
	if err != nil {
		t.Fatalf("Token: %v", err)
	}
	return token
}
