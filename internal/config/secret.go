package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxSecretBytes bounds what is read as a secret.
const maxSecretBytes = 1 << 20

const embeddedPrefix = "embedded:"

// The schemes of references.
const (
	schemeEnv            = "env"
	schemeFile           = "file"
	schemeCredential     = "credential"
	schemeSecretsManager = "aws-secretsmanager"
	schemeKMS            = "aws-kms"
)

// reference splits a reference into its scheme and its name; false where it is none.
func (s Secret) reference() (scheme, name string, ok bool) {
	scheme, name, ok = strings.Cut(string(s), ":")
	if !ok || name == "" {
		return "", "", false
	}
	switch scheme {
	case schemeEnv, schemeFile, schemeCredential, schemeSecretsManager, schemeKMS:
		return scheme, name, true
	}
	return "", "", false
}

// NotAReferenceError says that a secret was written into the configuration itself. It does not repeat it.
type NotAReferenceError struct{}

func (*NotAReferenceError) Error() string {
	return "expected a reference such as env:NAME, file:/path or credential:NAME: a secret is never written into the configuration"
}

// Resolve returns the secret that the reference names, without the line end that files and variables often have. An error
// names the reference, never its value.
func (s Secret) Resolve(ctx context.Context) ([]byte, error) { return s.resolve(ctx, false) }

// ResolvePrivate is Resolve for a private key: a file that its group or others may read is refused.
func (s Secret) ResolvePrivate(ctx context.Context) ([]byte, error) { return s.resolve(ctx, true) }

func (s Secret) resolve(ctx context.Context, private bool) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scheme, name, ok := s.reference()
	if !ok {
		return nil, &NotAReferenceError{}
	}
	switch scheme {
	case schemeEnv:
		value, ok := os.LookupEnv(name)
		if !ok || value == "" {
			return nil, fmt.Errorf("%s: the environment variable is not set", s)
		}
		return bytes.TrimRight([]byte(value), "\r\n"), nil
	case schemeFile:
		return readSecret(name, private)
	case schemeCredential:
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("%s: CREDENTIALS_DIRECTORY is not set: run under systemd with LoadCredential=%s", s, name)
		}
		if name != filepath.Base(name) {
			return nil, fmt.Errorf("%s: expected the name of a credential, without a path", s)
		}
		return readSecret(filepath.Join(dir, name), false) // systemd keeps its permissions
	default:
		return nil, fmt.Errorf("%s: references to %s are not supported by this version", scheme, scheme)
	}
}

func readSecret(path string, private bool) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read a secret: %s is no regular file", path)
	}
	if private && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others than its owner (mode %04o): run 'chmod 600 %s'", path, info.Mode().Perm(), path)
	}
	if info.Size() > maxSecretBytes {
		return nil, fmt.Errorf("read a secret: %s is larger than %d bytes", path, maxSecretBytes)
	}
	data, err := os.ReadFile(path) //nolint:gosec // the operator's own choice
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	return bytes.TrimRight(data, "\r\n"), nil
}

// ResolveURL returns the connection string: what is written, or what the reference names.
func (d Database) ResolveURL(ctx context.Context) (string, error) {
	if _, _, ok := d.URL.reference(); !ok {
		return string(d.URL), nil
	}
	value, err := d.URL.Resolve(ctx)
	if err != nil {
		return "", err
	}
	if len(value) == 0 {
		return "", errors.New("the referenced connection string is empty")
	}
	return string(value), nil
}

// Embedded returns the directory of an embedded database, and whether the resolved URL is one.
func Embedded(url string) (dir string, ok bool) { return strings.CutPrefix(url, embeddedPrefix) }
