package daemon

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/ops"
	"ingestd/internal/testpg"
)

func TestReload_takes_up_a_client_certificate_that_was_exchanged_under_its_name(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeCertificate(t, at("server.pem"), at("server.key"))
	writeCertificate(t, at("client.pem"), at("client.key"))
	pair, err := tls.LoadX509KeyPair(at("server.pem"), at("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	var presented atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		presented.Store(string(r.TLS.PeerCertificates[0].Raw))
		w.WriteHeader(http.StatusNotFound)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	load := func() (*config.Config, error) { return config.Load(at("ingestd.yaml")) }
	text := `
database: {url: "` + testpg.New(t, nil) + `"}
admin: {listen: ""}
payers:
  - name: p
    fhir_url: ` + server.URL + `/fhir
    auth: {method: none}
    tls: {ca_file: server.pem, client_certificate: client.pem, client_key: client.key}
  - {name: q, fhir_url: "https://q.example/fhir", auth: {method: none}}
`
	if err := os.WriteFile(at("ingestd.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	d, err := Open(t.Context(), Options{Config: c, Load: load, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	ask := func() string {
		t.Helper()
		if _, err := d.using.Load().payers[0].Client.Probe(t.Context(), "Patient", false); err != nil {
			t.Fatal(err)
		}
		return presented.Load().(string)
	}
	first, untouched, fingerprint := ask(), d.using.Load().payers[1].Client, c.Fingerprint()
	if result, err := d.Reload(t.Context()); err != nil || result != ops.ReloadUnchanged {
		t.Errorf("a reload of the same files: %s, %v", result, err)
	}
	writeCertificate(t, at("client.pem"), at("client.key"))
	if c.Fingerprint() == fingerprint {
		t.Error("reload.watch does not see that a certificate was exchanged")
	}
	if result, err := d.Reload(t.Context()); err != nil || result != ops.ReloadApplied {
		t.Errorf("a reload after the certificate was exchanged: %s, %v", result, err)
	}
	if ask() == first {
		t.Error("the old client certificate is still presented")
	}
	if d.using.Load().payers[1].Client != untouched {
		t.Error("a payer without certificates has lost its connections")
	}
	if n := strings.Count(log.String(), "certificates exchanged"); n != 1 {
		t.Errorf("the log tells of %d exchanges of certificates, want one:\n%s", n, log)
	}
}
