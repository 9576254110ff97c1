package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
)

// writeCertificate writes a self-signed certificate and its key.
func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: certificate}, name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad_checks_that_the_files_of_TLS_fit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir, "one")
	writeCertificate(t, dir, "two")
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ingestd.yaml")
	for tls, want := range map[string]string{
		"{ca_file: one.crt}": "",
		"{client_certificate: one.crt, client_key: one.key}": "",
		"{ca_file: text}":               "holds no certificate in PEM form",
		"{ca_file: .}":                  "is not a regular file",
		"{ca_file: missing}":            "tls.ca_file: " + dir + "/missing: cannot be read: no such file or directory",
		"{client_certificate: one.crt}": "tls: client_certificate and client_key belong together",
		"{client_certificate: one.crt, client_key: two.key}":                   "tls.client_certificate: cannot be used with client_key",
		"{client_certificate: missing, client_key: one.key}":                   "tls.client_certificate: " + dir + "/missing: cannot be read",
		"{client_certificate: one.crt, client_key: missing}":                   "tls.client_key: " + dir + "/missing: cannot be read",
		"{client_certificate: one.crt, client_key: one.key, ca_file: nowhere}": "nowhere: cannot be read",
	} {
		text := head + "payers:\n  - {name: x, fhir_url: 'https://x.example', auth: {client_id: x}, tls: " + tls + "}\n"
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(name)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", tls, err)
		case want == "" && c.Payers[0].TLS.CAFile == "one.crt":
			t.Errorf("%s: the name of the file is still relative", tls)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", tls, err, want)
		}
	}
	for jwks, want := range map[string]string{
		"{certificate_file: one.crt, key_file: one.key}": "",
		"{certificate_file: one.crt, key_file: two.key}": "jwks.certificate_file: cannot be used with key_file",
		"{certificate_file: one.crt}":                    "jwks: certificate_file and key_file belong together",
		"{certificate_file: one.crt, key_file: missing}": "jwks.key_file: " + dir + "/missing: cannot be read",
	} {
		if err := os.WriteFile(name, []byte(head+"payers: []\njwks: "+jwks+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", jwks, err, want)
		}
	}
}
