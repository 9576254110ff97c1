package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// maxSecretBytes bounds what is read as a secret.
const maxSecretBytes = 1 << 20

// embeddedPrefix marks a database URL that names the directory of a private Postgres.
const embeddedPrefix = "embedded:"

// The schemes of references that are resolved here.
const (
	schemeEnv        = "env"
	schemeFile       = "file"
	schemeCredential = "credential"
)

// The schemes of references to what is not on this machine. Resolve does not follow them.
const (
	// SchemeSecretsManager names a secret by its ARN, with #member behind it for one member of a JSON object.
	SchemeSecretsManager = "aws-secretsmanager"
	// SchemeKMS names a private key that signs and cannot be read, by its ARN.
	SchemeKMS = "aws-kms"
)

// Reference splits a reference into its scheme and its name; false where it is none.
func (s Secret) Reference() (scheme, name string, ok bool) { return s.reference() }

// reference splits a reference into its scheme and its name; false where it is none.
func (s Secret) reference() (scheme, name string, ok bool) {
	scheme, name, ok = strings.Cut(string(s), ":")
	if !ok || name == "" {
		return "", "", false
	}
	switch scheme {
	case schemeEnv, schemeFile, schemeCredential, SchemeSecretsManager, SchemeKMS:
		return scheme, name, true
	}
	return "", "", false
}

// inDir makes a reference to a relative file, or an embedded database, start from the directory of the configuration.
func (s Secret) inDir(dir string) Secret {
	for _, prefix := range []string{schemeFile + ":", embeddedPrefix} {
		if name, ok := strings.CutPrefix(string(s), prefix); ok {
			return Secret(prefix + inDir(dir, name))
		}
	}
	return s
}

// NotAReferenceError says that a secret was written into the configuration itself. It does not repeat it.
type NotAReferenceError struct{}

// Error says what belongs in the secret's place.
func (*NotAReferenceError) Error() string {
	return "expected a reference such as env:NAME, file:/path or credential:NAME: a secret is never written into the configuration"
}

// UnsupportedReferenceError says that a reference points out of this machine, where Resolve does not follow it.
type UnsupportedReferenceError struct {
	Scheme string // SchemeSecretsManager or SchemeKMS
}

// Error says which references can stand in this place.
func (e *UnsupportedReferenceError) Error() string {
	return fmt.Sprintf("references to %s cannot be used here: expected env:NAME, file:/path or credential:NAME", e.Scheme)
}

var (
	secretARN      = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]+(#[^#\s]+)?$`)
	keyARN         = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`)
	envName        = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	credentialName = regexp.MustCompile(`^[A-Za-z0-9_@-][A-Za-z0-9_.@-]*$`)
)

// valid reports what is wrong with the form of a reference, without reading what it names. The error does not repeat the
// name: a secret that was put there by mistake would show.
func (s Secret) valid() error {
	scheme, name, ok := s.reference()
	switch {
	case !ok:
		return &NotAReferenceError{}
	case scheme == SchemeSecretsManager && !secretARN.MatchString(name):
		return errors.New("expected the ARN of a secret behind aws-secretsmanager:, and #member for one member of a JSON object")
	case scheme == SchemeKMS && !keyARN.MatchString(name):
		return errors.New("expected aws-kms: and the ARN of a key or an alias")
	case scheme == schemeEnv && !envName.MatchString(name):
		return errors.New("expected the name of an environment variable behind env: (letters, digits and _)")
	case scheme == schemeCredential && !credentialName.MatchString(name):
		return errors.New("expected the name of a systemd credential behind credential:, without a path")
	}
	return nil
}

// Resolve returns the secret that the reference names, without the line end that files and variables often have. It reads
// anew each time, so that a rotated secret is found. An error names the reference, never the secret; it is a
// *NotAReferenceError, an *UnsupportedReferenceError, or wraps what the file system said.
func (s Secret) Resolve(ctx context.Context) ([]byte, error) { return s.resolve(ctx, false) }

// ResolvePrivate is Resolve for a private key: a file that its group or others may read is refused, because a key that
// others could have read is no longer private.
func (s Secret) ResolvePrivate(ctx context.Context) ([]byte, error) { return s.resolve(ctx, true) }

func (s Secret) resolve(ctx context.Context, private bool) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", s, err)
	}
	if err := s.valid(); err != nil {
		return nil, err
	}
	scheme, name, _ := s.reference()
	if scheme == SchemeSecretsManager || scheme == SchemeKMS {
		return nil, &UnsupportedReferenceError{Scheme: scheme}
	}
	var value []byte
	var err error
	switch scheme {
	case schemeEnv:
		text, ok := os.LookupEnv(name)
		if !ok {
			return nil, fmt.Errorf("%s: the environment variable is not set", s)
		}
		value = []byte(text)
	case schemeFile:
		value, err = readSecret(name, private)
	case schemeCredential:
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("%s: CREDENTIALS_DIRECTORY is not set: run under systemd with LoadCredential=%s", s, name)
		}
		value, err = readSecret(filepath.Join(dir, name), false) // systemd keeps others out of the directory
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	if value = bytes.TrimRight(value, "\r\n"); len(value) == 0 {
		return nil, fmt.Errorf("%s: is empty", s)
	}
	return value, nil
}

func readSecret(path string, private bool) ([]byte, error) {
	// Without O_NONBLOCK, opening a pipe would wait for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	}
	defer file.Close()
	// The permissions are those of the file that was opened, not of one that was put in its place since.
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	case private && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("can be read by others than its owner (mode %04o): run 'chmod 600 %s'", info.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSecretBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	case len(data) > maxSecretBytes:
		return nil, fmt.Errorf("is larger than %s", Size(maxSecretBytes))
	}
	return data, nil
}

// isPostgresURL reports whether a text is a connection string in the form of a URL.
func isPostgresURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// ResolveURL returns a connection string: what is written, or what the reference names.
func (s Secret) ResolveURL(ctx context.Context) (string, error) {
	if _, _, ok := s.reference(); !ok {
		return string(s), nil
	}
	value, err := s.Resolve(ctx)
	return string(value), err
}

// Embedded returns the directory of an embedded database, and whether the resolved URL is one.
func Embedded(url string) (dir string, ok bool) { return strings.CutPrefix(url, embeddedPrefix) }
