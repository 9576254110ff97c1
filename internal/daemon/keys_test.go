package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/payersim"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// writeCertificate writes a certificate for 127.0.0.1 with its key, and returns a pool that trusts it.
func writeCertificate(t *testing.T, certificateFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		certificateFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(certificate)
	return pool
}

var jwksAddress = regexp.MustCompile(`msg="JWKS listener" address=(\S+)`)

// TestKEY5_a_key_file_is_exchanged_while_the_daemon_runs proves the whole way: a payer fetches the set that the daemon serves
// over TLS, verifies tokens with it, and goes on to do so after the file was exchanged, without a restart.
func TestKEY5_a_key_file_is_exchanged_while_the_daemon_runs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "key.pem")
	first := writeKey(t, file, "rotated")
	roots := writeCertificate(t, filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 10 * time.Second}
	t.Cleanup(client.CloseIdleConnections)

	var log syncBuffer
	fetch := func(ctx context.Context) ([]byte, error) {
		match := jwksAddress.FindStringSubmatch(log.String())
		if match == nil {
			return nil, errors.New("the daemon does not listen yet")
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+match[1]+smartauth.JWKSPath, http.NoBody)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		if got := response.Header.Get("Cache-Control"); got != "public, max-age=7200" {
			t.Errorf("Cache-Control: got %q, want jwks.max_age", got)
		}
		return io.ReadAll(response.Body)
	}
	base := simulate(t, payersim.Options{
		TokenLifetime: time.Second, Clients: []payersim.Client{{ID: "ingestd", JWKSFunc: fetch}},
	})
	c := parse(t, `
database: {url: %[1]q}
admin: {listen: ""}
jwks: {listen: "127.0.0.1:0", certificate_file: %[4]s/tls.pem, key_file: %[4]s/tls.key, max_age: 2h}
keys: [{id: rotated, private_key: "file:%[2]s"}]
payers:
  - name: bluecross
    fhir_url: %[3]s
    auth: {client_id: ingestd}
    export: {types: [Patient]}
    limits: {poll_min: 100ms}
`, testpg.New(t, nil), file, base, dir)
	d, err := Open(t.Context(), Options{
		Config: c, Logger: slog.New(slog.NewTextHandler(&log, nil)), LookForKeys: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	}()

	export := func() {
		id, err := d.Engine.Start(ctx, "bluecross", scheduler.RunOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		watch, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		x, err := d.Engine.Watch(watch, id, func(store.Progress) {})
		if err != nil || x.State != store.StatePublished {
			t.Fatalf("export: %v, %s %s: %s", err, x.State, x.ErrorCode, x.Error)
		}
	}
	served := func() string {
		set, err := fetch(ctx)
		if err != nil {
			return ""
		}
		keys, err := smartauth.ParseJWKS(set)
		if err != nil || len(keys) != 1 || keys[0].Private {
			t.Fatalf("served: %s, %v; want one public key", set, err)
		}
		return keys[0].Thumbprint
	}
	eventually(t, "the set to be served", func() bool { return served() == first.Thumbprint() })
	export()
	second := writeKey(t, file, "rotated")
	eventually(t, "the new key to be served", func() bool { return served() == second.Thumbprint() })
	export() // the payer's set no longer has the first key
}

func TestKeys_that_are_published_never_sign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, kid := range []string{"old", "current", "spare"} {
		writeKey(t, filepath.Join(dir, kid+".pem"), kid)
	}
	c := parse(t, `
database: {url: "postgres://localhost/x"}
keys:
  - {id: old, private_key: "file:%[1]s/old.pem", state: published}
  - {id: spare, private_key: "file:%[1]s/spare.pem"}
  - {id: current, private_key: "file:%[1]s/current.pem"}
payers:
  - {name: one, fhir_url: "https://one.example/r4", auth: {client_id: c, key: current}}
  - {name: two, fhir_url: "https://two.example/r4", auth: {client_id: c, key: spare}}
`, dir)
	l := openLinks(t, c, NewSecrets(nil))
	for i, want := range []string{"current spare", "spare current"} {
		r, err := l.registration(c.Payers[i])
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, key := range r.CurrentKeys() {
			ids = append(ids, key.ID())
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: signing keys: got %s, want %s", c.Payers[i].Name, got, want)
		}
	}
	if got := len(l.keys.Published()); got != 3 {
		t.Errorf("published: got %d keys, want all 3", got)
	}
	p := c.Payers[0]
	p.Auth.Key = "old"
	if _, err := l.to(p); err == nil || !strings.Contains(err.Error(), `no active key "old"`) {
		t.Errorf("a published key that is to sign: got %v, want an error", err)
	}
}

func TestRun_ends_before_any_work_where_the_JWKS_cannot_be_served(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	d := &Daemon{logger: slog.New(slog.DiscardHandler), options: Options{Config: &config.Config{
		JWKS: config.JWKS{Listen: taken.Addr().String()},
	}}}
	if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "jwks.listen") {
		t.Errorf("got %v, want the key that names the address", err)
	}
}
