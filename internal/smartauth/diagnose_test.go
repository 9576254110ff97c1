package smartauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority issues certificates through an intermediate, as public ones do.
type authority struct {
	roots                 *x509.CertPool
	root, middle          *x509.Certificate
	rootKey, middleKey    *ecdsa.PrivateKey
	serial                atomic.Int64
	withoutIntermediate   bool
	leafNames             []string
	leafAddresses         []net.IP
	leafBefore, leafAfter time.Time
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{
		roots: x509.NewCertPool(), leafAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		leafBefore: time.Now().Add(-72 * time.Hour), leafAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	a.root, a.rootKey = a.issue(t, "root", true, nil, nil)
	a.middle, a.middleKey = a.issue(t, "intermediate", true, a.root, a.rootKey)
	a.roots.AddCert(a.root)
	return a
}

func (a *authority) issue(t *testing.T, name string, ca bool, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := a.serial.Add(1)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: a.leafBefore, NotAfter: a.leafAfter,
		IsCA: ca, BasicConstraintsValid: true,
	}
	if ca {
		template.NotBefore, template.NotAfter = time.Now().Add(-1000*time.Hour), time.Now().Add(1000*time.Hour)
	} else {
		template.DNSNames, template.IPAddresses = a.leafNames, a.leafAddresses
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// serve starts a TLS server whose certificate is the authority's next.
func (a *authority) serve(t *testing.T, handler http.Handler, change func(*tls.Config)) *httptest.Server {
	t.Helper()
	leaf, key := a.issue(t, "server", false, a.middle, a.middleKey)
	chain := [][]byte{leaf.Raw}
	if !a.withoutIntermediate {
		chain = append(chain, a.middle.Raw)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(server.TLS)
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestDISC6_what_is_wrong_with_TLS_is_said(t *testing.T) {
	t.Parallel()
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, test := range []struct {
		name  string
		setup func(*authority)
		tls   func(*tls.Config)
		want  string
	}{
		{"expired", func(a *authority) { a.leafAfter = time.Now().Add(-time.Hour) }, nil, "has expired on"},
		{"not yet valid", func(a *authority) { a.leafBefore = time.Now().Add(time.Hour) }, nil, "valid only from"},
		{"wrong name", func(a *authority) { a.leafAddresses, a.leafNames = nil, []string{"other.example"} }, nil, "another name (other.example)"},
		{"missing intermediate", func(a *authority) { a.withoutIntermediate = true }, nil, "sent no intermediate"},
		{"unknown authority", func(a *authority) { a.roots = x509.NewCertPool() }, nil, "authority is unknown"},
		{"TLS 1.1", func(*authority) {}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "no TLS version"},
		{"client certificate wanted", func(*authority) {}, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, "does not accept this client's certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			test.setup(a)
			server := a.serve(t, nothing, test.tls)
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.roots, MinVersion: tls.VersionTLS12}}
			defer transport.CloseIdleConnections()
			_, failure := tokenRequest{
				registration: &Registration{Payer: "acme", FHIRURL: server.URL, Method: MethodPrivateKeyJWT, ClientID: "c", Transport: transport},
				endpoint:     server.URL + "/token", key: testKey(), algorithm: testKey().algorithm, skew: &clockSkew{}, timeout: 10 * time.Second,
			}.send(t.Context())
			if failure == nil {
				t.Fatal("got a token")
			}
			if !strings.Contains(failure.Description, test.want) || failure.Hint == "" || failure.Hint == hintFor(CodeNetwork) {
				t.Errorf("got %q (hint %q), want %q", failure, failure.Hint, test.want)
			}
		})
	}
	plain := httptest.NewServer(nothing)
	defer plain.Close()
	self := httptest.NewUnstartedServer(nothing)
	self.Config.ErrorLog = log.New(io.Discard, "", 0)
	self.StartTLS()
	defer self.Close()
	for address, want := range map[string]string{
		"https://" + plain.Listener.Addr().String(): "does not speak TLS",
		self.URL: "self-signed",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		transport := newDefaultTransport()
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
			t.Fatalf("%s answered", address)
		}
		if problem, fix := explainTLS(err); !strings.Contains(problem, want) || fix == "" {
			t.Errorf("%s: got %q, %q for %v; want %q", address, problem, fix, err, want)
		}
		transport.CloseIdleConnections()
	}
}

// findings prints a diagnosis as "check:level" and checks that each line that is not ok says what to do.
func findings(t *testing.T, list []Finding) string {
	t.Helper()
	var texts []string
	for _, f := range list {
		texts = append(texts, f.Check+":"+string(f.Level))
		if (f.Fix == "") != (f.Level == LevelOK) || f.Detail == "" {
			t.Errorf("%s %s: detail %q, fix %q", f.Check, f.Level, f.Detail, f.Fix)
		}
		t.Logf("%-9s %-4s %s | %s", f.Check, f.Level, f.Detail, f.Fix)
	}
	return strings.Join(texts, " ")
}

func TestDiagnose_says_that_all_is_well_over_TLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	p := newPayer(t, testKey())
	secure := a.serve(t, p, nil)
	p.audience = secure.URL + "/auth/token"
	p.smart = fmt.Sprintf(`{"token_endpoint": %q, "token_endpoint_auth_methods_supported": ["private_key_jwt"]}`, p.audience)
	keys := a.serve(t, NewJWKSHandler(func() []*Key { return []*Key{testKey()} }, 0), nil)
	config := &tls.Config{RootCAs: a.roots, MinVersion: tls.VersionTLS12}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	registration := p.registration(testKey())
	registration.FHIRURL, registration.Transport = secure.URL+"/apis/fhir", transport
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), registration)
	got := findings(t, source.Diagnose(t.Context(), DiagnoseOptions{
		TLS: config, JWKSURL: keys.URL + JWKSPath, JWKSRoots: a.roots, AllowPrivate: true,
	}))
	if want := "dns:ok tls:ok discovery:ok clock:ok jwks:ok jwks:ok token:ok scopes:ok"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A second run asks the server again.
	source.Diagnose(t.Context(), DiagnoseOptions{TLS: config, JWKSURL: keys.URL + JWKSPath, JWKSRoots: a.roots, AllowPrivate: true})
	if p.tokenRequests() != 2 {
		t.Errorf("token requests: got %d, want 2", p.tokenRequests())
	}
}

func TestDiagnose_names_what_is_wrong_with_the_registration(t *testing.T) {
	t.Parallel()
	p := newPayer(t) // knows no key
	p.skew = 5 * time.Minute
	p.smart = fmt.Sprintf(`{"token_endpoint": %q, "token_endpoint_auth_methods_supported": ["client_secret_basic"]}`, p.audience)
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	list := source.Diagnose(t.Context(), DiagnoseOptions{})
	if got, want := findings(t, list), "dns:ok tls:warn discovery:warn clock:warn jwks:warn token:fail"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p = newPayer(t, testKey())
	p.scopes = func(string) (any, string) { return "system/Coverage.read", "" }
	source = newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	got := findings(t, source.Diagnose(t.Context(), DiagnoseOptions{}))
	if want := "dns:ok tls:warn discovery:ok clock:ok jwks:warn token:ok scopes:fail"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	unknown := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "gone", FHIRURL: "https://no-such-host.invalid/fhir", Method: MethodNone,
	})
	if got := findings(t, unknown.Diagnose(t.Context(), DiagnoseOptions{})); got != "dns:fail" {
		t.Errorf("a host that is not there: got %s", got)
	}
}

func TestKEY4_each_fault_of_a_JWKS_URL_is_named(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	set := func(keys ...*Key) []byte {
		data, err := NewJWKS(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	stale := &Key{id: testKey().id, algorithm: testRSAKey().algorithm, signer: testRSAKey().signer}
	twice := strings.Replace(string(set(testKey(), testRSAKey())), `"test-rsa"`, `"test-key"`, 1)
	private := string(foreignJWK(t, testKey().Signer(), "test-key", "ES384"))
	for _, test := range []struct {
		name   string
		status int
		kind   string
		body   string
		url    string // "": the server's
		strict bool   // demand a public address
		want   string
		level  Level
	}{
		{"right", 200, "application/json; charset=utf-8", string(set(testKey(), testRSAKey())), "", false, "has the key", LevelOK},
		{"http", 0, "", "", "http://keys.example/jwks.json", false, "not an https URL", LevelFail},
		{"no such host", 0, "", "", "https://no-such-host.invalid/jwks.json", false, "cannot be resolved", LevelFail},
		{"private address", 200, "application/json", "", "", true, "127.0.0.1, which payers cannot reach", LevelFail},
		{"redirect", 302, "application/json", "", "", false, "HTTP 302", LevelFail},
		{"authentication", 401, "application/json", "", "", false, "HTTP 401", LevelFail},
		{"HTML", 200, "text/html", "<html>", "", false, "content type", LevelFail},
		{"no JSON", 200, "application/json", "<html>", "", false, "not a JSON object", LevelFail},
		{"no set", 200, "application/json", `{"kty":"EC"}`, "", false, "no JWK Set", LevelFail},
		{"empty", 200, "application/json", `{"keys":[]}`, "", false, `no key "test-key"`, LevelFail},
		{"another key under the kid", 200, "application/json", string(set(stale)), "", false, "not the one that signs", LevelFail},
		{"the kid twice", 200, "application/json", twice, "", false, `2 keys "test-key"`, LevelFail},
		{"a private key", 200, "application/json", `{"keys":[` + private + `]}`, "", false, "PRIVATE", LevelFail},
		{"too long", 200, "application/json", strings.Repeat(" ", maxResponse+1), "", false, "1 MiB", LevelFail},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := test.url
			if address == "" {
				server := a.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", test.kind)
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, test.body)
				}), nil)
				address = server.URL
			}
			source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
				Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()},
			})
			d := &diagnosis{source: source, options: DiagnoseOptions{
				JWKSURL: address, JWKSRoots: a.roots, AllowPrivate: !test.strict, Timeout: 10 * time.Second,
			}}
			d.jwks(t.Context())
			last := d.findings[len(d.findings)-1]
			if last.Level != test.level || !strings.Contains(last.Detail, test.want) {
				t.Errorf("got %+v, want %s: %q", last, test.level, test.want)
			}
		})
	}
}

func TestIsPublic_tells_what_the_Internet_reaches(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "::1": false, "fe80::1": false, "fd00::1": false, "0.0.0.0": false,
		"::ffff:10.0.0.1": false, "224.0.0.1": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	set, err := NewJWKS(testKey(), testRSAKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set)
	for _, seed := range []string{`{"keys":[]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"},1,{"kty":"oct","k":"c2VjcmV0"}]}`, `null`, `{"keys":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseJWKS(data)
		if err != nil {
			return
		}
		for _, key := range keys {
			if (key.Thumbprint == "") != (key.Problem != "") || len([]rune(key.Problem)) > 300 {
				t.Errorf("key %+v has a thumbprint and a problem, or neither", key)
			}
		}
	})
}

func TestDiagnose_says_when_nothing_listens(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "gone", FHIRURL: "https://" + address + "/fhir", Method: MethodNone,
	})
	list := source.Diagnose(t.Context(), DiagnoseOptions{})
	if got := findings(t, list); got != "dns:ok tls:fail" || !strings.Contains(list[1].Detail, "refused") {
		t.Errorf("got %s: %+v", got, list)
	}
}
