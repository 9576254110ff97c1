package outbound

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ingestd/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a certificate and its key, with which further ones are signed.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issue signs a certificate by parent, or by itself where parent is nil. Edits see the template.
func issue(t *testing.T, parent *authority, edits ...func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "test " + serial.String()},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
	}
	for _, edit := range edits {
		edit(template)
	}
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key}
}

func asCA(template *x509.Certificate) { template.IsCA = true; template.IPAddresses = nil }

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// file writes data to a file of the test.
func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts a TLS server that sends the given chain.
func serve(t *testing.T, edit func(*tls.Config), chain ...*authority) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Proto", r.Proto)
	}))
	server.Config.ErrorLog = log.New(new(strings.Builder), "", 0)
	certificate := tls.Certificate{PrivateKey: chain[0].key}
	for _, link := range chain {
		certificate.Certificate = append(certificate.Certificate, link.certificate.Raw)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	if edit != nil {
		edit(server.TLS)
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// get requests url over a transport with the given options.
func get(t *testing.T, url string, o Options) (*http.Response, error) {
	t.Helper()
	if o.FHIRURL == "" {
		o.FHIRURL = url
	}
	transport, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	return response, err
}

func wantCode(t *testing.T, err error, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want an error with code %s", err, code)
	}
	return e
}

func TestDISC6_eachTLSFaultHasItsOwnMessage(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, asCA)
	intermediate := issue(t, root, asCA)
	trust := config.TLS{CAFile: file(t, root.pem())}
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	otherName := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} }
	seen := make(map[string]string)
	for _, test := range []struct {
		name   string
		server *httptest.Server
		tls    config.TLS
		code   string
	}{
		{"fine", serve(t, nil, issue(t, root)), trust, ""},
		{"fine, by an intermediate", serve(t, nil, issue(t, intermediate), intermediate), trust, ""},
		{"old version", serve(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
			issue(t, root)), trust, CodeTLSVersion},
		{
			"older than configured", serve(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, issue(t, root)),
			config.TLS{CAFile: trust.CAFile, MinVersion: "1.3"},
			CodeTLSVersion,
		},
		{"expired", serve(t, nil, issue(t, root, expired)), trust, CodeTLSExpired},
		{"not yet valid", serve(t, nil, issue(t, root, future)), trust, CodeTLSNotYetValid},
		{"self-signed", serve(t, nil, issue(t, nil)), trust, CodeTLSSelfSigned},
		{"wrong name", serve(t, nil, issue(t, root, otherName)), trust, CodeTLSWrongName},
		{"missing intermediate", serve(t, nil, issue(t, intermediate)), trust, CodeTLSIntermediate},
		{"unknown authority", serve(t, nil, issue(t, root), root), config.TLS{}, CodeTLSUnknownCA},
		{"client certificate wanted", serve(t, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
			issue(t, root)), trust, CodeTLSClient},
		{"client certificate wanted in TLS 1.2", serve(t, func(c *tls.Config) {
			c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}, issue(t, root)), trust, CodeTLSClient},
	} {
		_, err := get(t, test.server.URL, Options{TLS: test.tls})
		if test.code == "" {
			if err != nil {
				t.Errorf("%s: got %v", test.name, err)
			}
			continue
		}
		e := wantCode(t, err, test.code)
		if e.Hint == "" || e.Permanent() {
			t.Errorf("%s: got hint %q, permanent %v, want a hint and another try", test.name, e.Hint, e.Permanent())
		}
		if before, ok := seen[e.Detail]; ok && before != test.code {
			t.Errorf("%s: the message %q is the one of %s", test.name, e.Detail, before)
		}
		seen[e.Detail] = test.code
	}
}

func TestDISC6_clientCertificate(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, asCA)
	client := issue(t, root)
	pool := x509.NewCertPool()
	pool.AddCert(root.certificate)
	server := serve(t, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool }, issue(t, root))
	der, err := x509.MarshalPKCS8PrivateKey(client.key)
	if err != nil {
		t.Fatal(err)
	}
	key := file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	o := Options{TLS: config.TLS{CAFile: file(t, root.pem()), ClientCertificate: file(t, client.pem()), ClientKey: key}}
	response, err := get(t, server.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("Proto"); got != "HTTP/2.0" {
		t.Errorf("got %s, want HTTP/2.0", got)
	}
}

func TestNew_refuses_TLS_files_that_cannot_be_used(t *testing.T) {
	t.Parallel()
	text := file(t, []byte("no certificate"))
	for name, o := range map[string]config.TLS{
		"ca_file":            {CAFile: text},
		"tls.ca_file":        {CAFile: "/nonexistent"},
		"client_key":         {ClientCertificate: text},
		"client_certificate": {ClientCertificate: text, ClientKey: text},
		"min_version":        {MinVersion: "1.1"},
	} {
		_, err := New(Options{FHIRURL: "https://payer.example", TLS: o})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: got %v, want an error that names %s", o, err, name)
		}
	}
	for _, u := range []string{"", "payer.example", "ftp://payer.example"} {
		if _, err := New(Options{FHIRURL: u}); err == nil {
			t.Errorf("%q: got no error", u)
		}
	}
}

func TestTransport_takes_plain_http_for_loopback_only(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"http://payer.example/", "http://10.0.0.1/", "ftp://127.0.0.1/"} {
		_, err := get(t, u, Options{FHIRURL: "https://payer.example"})
		var e *Error
		if !errors.As(err, &e) || !e.Permanent() {
			t.Errorf("%s: got %v, want a permanent refusal", u, err)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if _, err := get(t, server.URL, Options{}); err != nil {
		t.Errorf("loopback: got %v", err)
	}
	if _, err := get(t, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), Options{}); err != nil {
		t.Errorf("localhost: got %v", err)
	}
}

func TestTransport_names_what_went_wrong_with_the_connection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}))
	defer server.Close()
	_, err := get(t, server.URL, Options{})
	if e := wantCode(t, err, CodeReset); e.Unsent {
		t.Error("reset: got Unsent true: the request did reach the server")
	}
	_, err = get(t, server.URL+"/slow", Options{ResponseHeaderTimeout: 20 * time.Millisecond})
	wantCode(t, err, CodeTimeout)
	_, err = get(t, strings.Replace(server.URL, "http:", "https:", 1), Options{})
	if e := wantCode(t, err, CodePlainHTTPAnswers); !e.Unsent {
		t.Error("plain http: got Unsent false")
	}

	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	_, err = get(t, closed.URL, Options{})
	if e := wantCode(t, err, CodeRefused); !e.Unsent {
		t.Error("refused: got Unsent false")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	transport, err := New(Options{FHIRURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	response, err := transport.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("cancelled: got %v, want context.Canceled as it is", err)
	}
}

func TestForPayer_trusts_the_hosts_that_the_configuration_names(t *testing.T) {
	t.Parallel()
	o := ForPayer(config.Payer{
		FHIRURL:       "https://payer.example/r4",
		Auth:          config.Auth{TokenURL: "https://login.payer.example:8443/token"},
		DownloadHosts: []config.DownloadHost{{Host: "files.example"}},
		Limits:        config.Limits{Downloads: 6},
	})
	if got := strings.Join(o.TrustedHosts, " "); got != "login.payer.example:8443 files.example" {
		t.Errorf("got trusted hosts %q", got)
	}
	if o.MaxConnsPerHost != 10 {
		t.Errorf("got %d connections, want 10", o.MaxConnsPerHost)
	}
}

func TestTransport_tells_how_connections_are_secured_while_it_connects(t *testing.T) {
	t.Parallel()
	transport, err := New(Options{FHIRURL: "https://127.0.0.1:1/fhir"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:1/fhir", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if response, err := transport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
			t.Error("somebody answers on port 1")
		}
	}()
	for range 100 { // the race detector judges
		if transport.TLSConfig().MinVersion == 0 {
			t.Error("no least version")
		}
	}
	<-done
}
