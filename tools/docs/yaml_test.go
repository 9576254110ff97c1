package docs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// top are the keys that stand at the top of a configuration; what has none of them is settings of a payer.
var top = []string{
	"include", "defaults", "database", "admin", "jwks", "log", "shutdown", "reload", "workers", "notify", "fleet", "retention", "keys", "payers",
}

// whole makes a configuration of a fragment: what it does not show, and a configuration needs, is added.
func whole(fragment map[string]any) map[string]any {
	isTop := false
	for key := range fragment {
		isTop = isTop || slices.Contains(top, key) || strings.HasPrefix(key, "x-")
	}
	for key := range fragment {
		isTop = isTop || !isPayerKey(key) // an unknown key is told by the check, at the top
	}
	if !isTop {
		fragment = map[string]any{"payers": []any{fragment}}
	}
	set := func(in map[string]any, key string, value any) {
		if _, ok := in[key]; !ok {
			in[key] = value
		}
	}
	set(fragment, "database", map[string]any{"url": "env:DATABASE_URL"})
	set(fragment, "payers", []any{})
	payers, _ := fragment["payers"].([]any)
	for _, p := range payers {
		if payer, ok := p.(map[string]any); ok {
			set(payer, "name", "bluecross")
			set(payer, "fhir_url", "https://fhir.bluecross.example/r4")
			set(payer, "auth", map[string]any{"client_id": "ingestd-prod"})
		}
	}
	set(fragment, "keys", []any{map[string]any{"id": "2026-11", "private_key": "file:" + keyFile}})
	return fragment
}

func isPayerKey(key string) bool {
	return slices.Contains([]string{
		"name", "fhir_url", "enabled", "schedule", "timezone", "jitter", "freshness_slo", "catch_up", "not_between", "profile", "auth",
		"export", "limits", "download_hosts", "tls", "load",
	}, key)
}

func TestDocs_every_configuration_that_a_page_shows_is_valid(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.lang != "yaml" {
				continue
			}
			var fragment map[string]any
			if err := yaml.Unmarshal([]byte(b.text), &fragment); err != nil {
				t.Errorf("%s: %v", b, err)
				continue
			}
			switch {
			case b.notRun != "":
				t.Logf("not a configuration: %s: %s", b, b.notRun)
			case b.faults:
				checkFaults(t, b)
				checked++
			default:
				checkConfiguration(t, b, fragment)
				checked++
			}
		}
	}
	if checked < 10 {
		t.Errorf("checked %d configurations: expected more", checked)
	}
}

func checkConfiguration(t *testing.T, b *block, fragment map[string]any) {
	t.Helper()
	if fragment == nil {
		return // a comment
	}
	text, err := yaml.Marshal(whole(fragment))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeCertificate(t, filepath.Join(dir, "tls"))
	text = bytes.ReplaceAll(text, []byte(etc+"/"), []byte(dir+"/"))
	name := filepath.Join(dir, "ingestd.yaml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "check", "--config", name).CombinedOutput(); err != nil {
		t.Errorf("%s: ingestd check: %v\n%s\nof\n%s", b, err, out, text)
	}
}

// writeCertificate writes the files that configurations name as those of a certificate: they are read when they are checked.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"fullchain.pem": {Type: "CERTIFICATE", Bytes: certificate}, "ca.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// checkFaults gives a fault plan to a simulated payer, which says that it listens or what is wrong.
func checkFaults(t *testing.T, b *block) {
	t.Helper()
	dir := t.TempDir()
	plan, jwks := filepath.Join(dir, "faults.yaml"), filepath.Join(dir, "jwks.json")
	for name, text := range map[string]string{plan: b.text, jwks: `{"keys":[]}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startPayer(t, "--client", "demo="+jwks, "--patients", "1", "--faults", plan)
}
