package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runKeys runs `ingestd keys ARGS`.
func runKeys(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"keys"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

type printedJWKS struct {
	Keys []map[string]any `json:"keys"`
}

func jwksOf(t *testing.T, args ...string) printedJWKS {
	t.Helper()
	code, out, errs := runKeys(t, append([]string{"jwks"}, args...)...)
	if code != exitDone {
		t.Fatalf("keys jwks %q: exit %d: %s", args, code, errs)
	}
	var set printedJWKS
	if err := json.Unmarshal([]byte(out), &set); err != nil {
		t.Fatalf("keys jwks printed no JSON: %v\n%s", err, out)
	}
	return set
}

func TestKeysGenerate_writes_a_private_file_and_prints_the_kid_that_jwks_prints(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, algorithm, kid string }{
		{"ES384 by default", "", ""},
		{"RSA", "RS384", ""},
		{"named", "ES256", "2026-11"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key.pem")
			args := []string{"generate", "--out", path}
			want := "ES384"
			if test.algorithm != "" {
				args, want = append(args, "--algorithm", test.algorithm), test.algorithm
			}
			if test.kid != "" {
				args = append(args, "--kid", test.kid)
			}
			code, out, errs := runKeys(t, args...)
			if code != exitDone {
				t.Fatalf("exit %d: %s", code, errs)
			}
			kid := strings.TrimSpace(out)
			if test.kid != "" && kid != test.kid {
				t.Errorf("printed kid: got %q, want %q", kid, test.kid)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode: got %04o, want 0600", info.Mode().Perm())
			}
			set := jwksOf(t, "--key", path)
			if len(set.Keys) != 1 || set.Keys[0]["kid"] != kid || set.Keys[0]["alg"] != want || set.Keys[0]["d"] != nil {
				t.Errorf("keys jwks: got %v, want the public key %q for %s", set.Keys, kid, want)
			}
		})
	}
}

func TestKeysGenerate_overwrites_nothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	if code, _, errs := runKeys(t, "generate", "--out", path); code != exitDone {
		t.Fatalf("exit %d: %s", code, errs)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs := runKeys(t, "generate", "--out", path)
	if code != exitUsage || !strings.Contains(errs, "not overwritten") {
		t.Errorf("got exit %d, %q; want exit %d and why", code, errs, exitUsage)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the key was overwritten")
	}
}

func TestKeysJWKS_prints_several_keys_and_a_kid_that_a_payer_issued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.pem"), filepath.Join(dir, "2.pem")
	for _, path := range []string{first, second} {
		if code, _, errs := runKeys(t, "generate", "--out", path); code != exitDone {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	if set := jwksOf(t, "--key", first, "--key", second); len(set.Keys) != 2 {
		t.Errorf("got %d keys, want 2", len(set.Keys))
	}
	if set := jwksOf(t, "--key", first, "--kid", "issued-by-payer"); set.Keys[0]["kid"] != "issued-by-payer" {
		t.Errorf("kid: got %v, want the one that was given", set.Keys[0]["kid"])
	}
}

func TestKeys_says_what_is_wrong_with_how_it_was_called(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	readable := filepath.Join(dir, "readable.pem")
	if code, _, errs := runKeys(t, "generate", "--out", readable); code != exitDone {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no file to write", []string{"generate"}, "--out"},
		{"unknown algorithm", []string{"generate", "--out", filepath.Join(dir, "new.pem"), "--algorithm", "HS256"}, "ES384"},
		{"no key", []string{"jwks"}, "--key"},
		{"both sources", []string{"jwks", "--config", "c.yaml", "--key", "k.pem"}, "either --config"},
		{"no configuration", []string{"list"}, "--config"},
		{"a configuration that is not there", []string{"jwks", "--config", filepath.Join(dir, "missing.yaml")}, "missing.yaml"},
		{"a key that others read", []string{"jwks", "--key", readable}, "chmod 0600"},
		{"one kid for two keys", []string{"jwks", "--key", "a", "--key", "b", "--kid", "c"}, "--kid names one key"},
		{"a file that is not there", []string{"jwks", "--key", "missing.pem"}, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errs := runKeys(t, test.args...)
			if code != exitUsage || !strings.Contains(errs, test.want) || out != "" {
				t.Errorf("got exit %d, stdout %q, stderr %q; want exit %d and %q", code, out, errs, exitUsage, test.want)
			}
		})
	}
}

func TestKeys_of_a_configuration_are_listed_and_published(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"old", "new"} {
		if code, _, errs := runKeys(t, "generate", "--out", filepath.Join(dir, name+".pem")); code != exitDone {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	path := filepath.Join(dir, "ingestd.yaml")
	text := `
database: {url: "postgres://localhost/ingestd"}
keys:
  - {id: "2026-10", private_key: "file:` + dir + `/old.pem", state: published}
  - {id: "2026-11", private_key: "file:` + dir + `/new.pem", state: active}
payers:
  - name: bluecross
    fhir_url: https://fhir.bluecross.example/r4
    auth: {client_id: ingestd, key: "2026-11"}
    export: {level: system, types: [Patient]}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set := jwksOf(t, "--config", path)
	if len(set.Keys) != 2 || set.Keys[0]["kid"] != "2026-10" || set.Keys[1]["kid"] != "2026-11" {
		t.Errorf("keys jwks: got %v, want both keys by their ids", set.Keys)
	}
	code, out, errs := runKeys(t, "list", "--config", path)
	if code != exitDone {
		t.Fatalf("keys list: exit %d: %s", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || len(strings.Fields(lines[2])) != 5 {
		t.Fatalf("keys list: got\n%s", out)
	}
	if got := strings.Fields(lines[1]); got[0] != "2026-10" || got[2] != "published" || got[4] != "-" {
		t.Errorf("the old key: got %v", got)
	}
	if got := strings.Fields(lines[2]); got[0] != "2026-11" || got[1] != "ES384" || got[2] != "active" || got[4] != "bluecross" {
		t.Errorf("the new key: got %v", got)
	}
}
