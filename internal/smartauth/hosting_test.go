package smartauth

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestKEY4_the_listener_serves_the_key_set_and_nothing_else(t *testing.T) {
	t.Parallel()
	keys := []*Key{testKey()}
	handler := NewJWKSHandler(func() []*Key { return keys }, 10*time.Minute)
	ask := func(method, path string, header http.Header) *http.Response {
		request := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		maps.Copy(request.Header, header)
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		return recorder.Result()
	}
	full := ask(http.MethodGet, JWKSPath, nil)
	body, _ := io.ReadAll(full.Body)
	_ = full.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil || len(set.Key("test-key")) != 1 {
		t.Fatalf("body: %s, %v", body, err)
	}
	if full.Header.Get("Content-Type") != "application/json" || full.Header.Get("Cache-Control") != "public, max-age=600" {
		t.Errorf("headers: %v", full.Header)
	}
	tag := full.Header.Get("ETag")
	for _, test := range []struct {
		method, path string
		header       http.Header
		status       int
	}{
		{http.MethodHead, JWKSPath, nil, 200},
		{http.MethodGet, JWKSPath + "?cache=1", nil, 200},
		{http.MethodGet, JWKSPath, http.Header{"If-None-Match": {tag}}, 304},
		{http.MethodGet, JWKSPath, http.Header{"If-None-Match": {`"x", W/` + tag}}, 304},
		{http.MethodGet, JWKSPath, http.Header{"If-None-Match": {`"x"`}}, 200},
		{http.MethodPost, JWKSPath, nil, 405},
		{http.MethodDelete, JWKSPath, nil, 405},
		{http.MethodOptions, JWKSPath, nil, 405},
		{http.MethodGet, "/", nil, 404},
		{http.MethodGet, JWKSPath + "/", nil, 404},
		{http.MethodGet, "/metrics", nil, 404},
		{http.MethodPost, "/x", nil, 404},
	} {
		response := ask(test.method, test.path, test.header)
		got, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%s %s: got %d, want %d", test.method, test.path, response.StatusCode, test.status)
		}
		if test.method == http.MethodHead && (len(got) != 0 || response.Header.Get("Content-Length") != full.Header.Get("Content-Length")) {
			t.Errorf("HEAD: %d bytes, Content-Length %s", len(got), response.Header.Get("Content-Length"))
		}
	}
	keys = []*Key{testKey(), testRSAKey()}
	again := ask(http.MethodGet, JWKSPath, http.Header{"If-None-Match": {tag}})
	_ = again.Body.Close()
	if again.StatusCode != http.StatusOK || again.Header.Get("ETag") == tag {
		t.Errorf("after a rotation: got %d with the tag %s", again.StatusCode, again.Header.Get("ETag"))
	}
}

// writeCertificate writes a self-signed certificate for 127.0.0.1 with this serial number, and returns it.
func writeCertificate(t *testing.T, dir string, serial int64, until time.Time) (certFile, keyFile string, certificate *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "keys"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:  []string{"keys.example.org"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{
		certFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyFile: pemOf("PRIVATE KEY", keyDER, err),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, certificate
}

// startJWKS runs the listener; stop ends it and returns what Run returned.
func startJWKS(t *testing.T, server JWKSServer) (address string, stop func() error) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, listener) }()
	stop = func() error {
		cancel()
		err, ok := <-done
		if ok {
			close(done)
		}
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return listener.Addr().String(), stop
}

func TestJWKSServer_serves_over_TLS_and_takes_a_renewed_certificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, first := writeCertificate(t, dir, 1, time.Now().Add(time.Hour))
	address, stop := startJWKS(t, JWKSServer{Keys: func() []*Key { return []*Key{testKey()} }, CertificateFile: certFile, KeyFile: keyFile})
	roots := x509.NewCertPool()
	roots.AddCert(first)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+JWKSPath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("got %d, want 200", response.StatusCode)
	}
	old := &tls.Config{MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}
	if conn, err := tls.Dial("tcp", address, old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}

	files := &certificateFiles{certificate: certFile, key: keyFile, logger: newTestManager(t, ManagerOptions{}).logger}
	serial := func() int64 {
		files.looked = time.Time{}
		pair, err := files.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial: got %d, want 1", got)
	}
	writeCertificate(t, dir, 2, time.Now().Add(2*time.Hour))
	if got := serial(); got != 2 {
		t.Errorf("serial after the renewal: got %d, want 2", got)
	}
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("serial with a broken file: got %d, want 2 still", got)
	}
}

func TestJWKSServer_bounds_what_callers_hold(t *testing.T) {
	t.Parallel()
	address, stop := startJWKS(t, JWKSServer{Keys: func() []*Key { return []*Key{testKey()} }})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nX-Long: ", JWKSPath); err != nil {
		t.Fatal(err)
	}
	filler := make([]byte, 64<<10)
	for i := range filler {
		filler[i] = 'x'
	}
	_, _ = conn.Write(filler) // the server may close before it has read all
	_, _ = conn.Write([]byte("\r\n\r\n"))
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("headers of 64 KiB: got %d, want 431", response.StatusCode)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := (JWKSServer{CertificateFile: "missing.pem", KeyFile: "missing.pem"}).Run(t.Context(), brokenListener{}); err == nil {
		t.Error("a certificate that is not there is accepted")
	}
}

type brokenListener struct{ net.Listener }

func (brokenListener) Close() error { return nil }

func TestLimitedListener_accepts_again_when_a_connection_ends(t *testing.T) {
	t.Parallel()
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := newLimitedListener(inner, 1)
	accepted := make(chan net.Conn)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted over the limit")
	case <-time.After(50 * time.Millisecond):
	}
	_ = first.Close()
	_ = first.Close() // twice releases once
	second := <-accepted
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	_ = second.Close()
	<-ended
}
