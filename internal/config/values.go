package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// Size is a number of bytes, written with a unit in the file: 512KiB, 64MiB, 1GiB, or a plain number of bytes.
type Size int64

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, unit := range []struct {
		suffix string
		factor Size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%unit.factor == 0 {
			return fmt.Sprintf("%d%s", s/unit.factor, unit.suffix)
		}
	}
	return fmt.Sprintf("%d", int64(s))
}

// MarshalYAML writes the size as it is written in a file.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }

// Secret is a reference to a secret (env:NAME, file:/path, credential:NAME), never the secret itself; only the database's
// URL may be written out. It is safe to print: a password that is written out is left out.
type Secret string

// String is the reference, or the redacted URL.
func (s Secret) String() string {
	text := string(s)
	if _, _, ok := s.reference(); ok || text == "" || strings.HasPrefix(text, embeddedPrefix) {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "[redacted]"
	}
	// A password may stand in the user's part, or among the parameters.
	u.RawQuery = ""
	return u.Redacted()
}

// GoString redacts the secret under %#v.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.String()) }

// LogValue redacts the secret in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText redacts the secret in JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML redacts the secret in YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
