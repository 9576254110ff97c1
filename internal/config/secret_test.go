package config_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ingestd/internal/config"
)

func writeFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	full := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(full, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(full, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return full
}

func TestResolve_reads_what_the_reference_names(t *testing.T) {
	credential := writeFile(t, "token", "from systemd\n", 0o440)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(credential))
	t.Setenv("INGESTD_TEST_SECRET", "from the environment\r\n")
	for reference, want := range map[string]string{
		"env:INGESTD_TEST_SECRET":                            "from the environment",
		"file:" + writeFile(t, "s", "from a file\n", 0o600):  "from a file",
		"file:" + writeFile(t, "s", " two\nlines ", 0o600):   " two\nlines ",
		"file:" + writeFile(t, "s", "for others too", 0o644): "for others too",
		"credential:token":                                   "from systemd",
	} {
		got, err := config.Secret(reference).Resolve(t.Context())
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", reference, got, err, want)
		}
	}
	if got, err := config.Secret("credential:token").ResolvePrivate(t.Context()); err != nil || string(got) != "from systemd" {
		t.Errorf("a credential as private key: got %q, %v", got, err)
	}
}

func TestResolve_tells_what_is_wrong_and_no_secret(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	t.Setenv("INGESTD_TEST_EMPTY", "\n")
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for reference, want := range map[string]string{
		"":                             "expected a reference",
		"HUNTER2":                      "expected a reference",
		"postgres://u:HUNTER2@db/x":    "expected a reference",
		"env:HUNTER2 is no name":       "expected the name of an environment variable",
		"env:INGESTD_TEST_NOT_SET":     "env:INGESTD_TEST_NOT_SET: the environment variable is not set",
		"env:INGESTD_TEST_EMPTY":       "env:INGESTD_TEST_EMPTY: is empty",
		"file:/nonexistent/secret":     "file:/nonexistent/secret: cannot be read: no such file or directory",
		"file:" + t.TempDir():          "is not a regular file",
		"file:" + pipe:                 "is not a regular file",
		"credential:token":             "run under systemd with LoadCredential=token",
		"credential:../../etc/HUNTER2": "expected the name of a systemd credential",
		"credential:..":                "expected the name of a systemd credential",
		"file:" + writeFile(t, "s", strings.Repeat("x", 1<<20+1), 0o600): "is larger than 1MiB",
	} {
		got, err := config.Secret(reference).Resolve(t.Context())
		if err == nil || got != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "HUNTER2") {
			t.Errorf("%s: got %q, %v, want nothing, and %q", reference, got, err, want)
		}
	}
	if _, err := config.Secret("HUNTER2").Resolve(t.Context()); !isType[*config.NotAReferenceError](err) {
		t.Errorf("a secret that is written out: got %T", err)
	}
	if _, err := config.Secret("file:/nonexistent/secret").Resolve(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v, want fs.ErrNotExist in it", err)
	}
	for _, reference := range []config.Secret{
		"aws-kms:arn:aws:kms:us-east-1:111122223333:key/abc", "aws-secretsmanager:arn:aws:secretsmanager:us-east-1:111122223333:secret:x#key",
	} {
		if _, err := reference.Resolve(t.Context()); !isType[*config.UnsupportedReferenceError](err) {
			t.Errorf("%s: got %v, want an UnsupportedReferenceError", reference, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := config.Secret("env:PATH").Resolve(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: got %v", err)
	}
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestResolvePrivate_refuses_a_key_that_others_can_read(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o640: "mode 0640", 0o604: "mode 0604", 0o660: "mode 0660", 0o644: "mode 0644",
	} {
		name := writeFile(t, "key.pem", "HUNTER2", mode)
		_, err := config.Secret("file:" + name).ResolvePrivate(t.Context())
		switch {
		case want == "" && err != nil:
			t.Errorf("mode %04o: %v", mode, err)
		case want == "":
		case err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "run 'chmod 600 "+name+"'"):
			t.Errorf("mode %04o: got %v, want the mode and the chmod that mends it", mode, err)
		}
	}
}

func TestDatabase_resolves_its_url(t *testing.T) {
	t.Setenv("INGESTD_TEST_URL", "embedded:/var/lib/ingestd/postgres\n")
	for written, want := range map[config.Secret]string{
		"env:INGESTD_TEST_URL":        "embedded:/var/lib/ingestd/postgres",
		"embedded:/srv/postgres":      "embedded:/srv/postgres",
		"postgres://u:p@db/x?a=b":     "postgres://u:p@db/x?a=b",
		"postgresql://db/x":           "postgresql://db/x",
		"env:INGESTD_TEST_NOT_SET_AT": "",
	} {
		got, err := written.ResolveURL(t.Context())
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", written, got, err, want)
		}
	}
	if dir, ok := config.Embedded("embedded:/srv/postgres"); !ok || dir != "/srv/postgres" {
		t.Errorf("got %q, %v", dir, ok)
	}
	if _, ok := config.Embedded("postgres://db/x"); ok {
		t.Error("a server elsewhere is taken for an embedded one")
	}
}
