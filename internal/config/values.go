package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written with a unit in the file: 512KiB, 64MiB, 1GiB, or a plain number of bytes.
type Size int64

// sizeUnits are the units of sizes, the largest first.
var sizeUnits = []struct {
	suffix string
	bytes  Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && unit.bytes > 1 && s%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", s/unit.bytes, unit.suffix)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalYAML writes the size as it is written in a file.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }

// durationText writes a duration without the parts that are zero: 10m instead of 10m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Secret is a reference to a secret (env:NAME, file:/path, credential:NAME), never the secret itself; only the database's
// URL may be written out. It is safe to print: a password that is written out is left out.
type Secret string

// redacted stands for what is not shown.
const redacted = "[redacted]"

// String is the reference, or a written-out database URL without its password and parameters.
func (s Secret) String() string {
	text := string(s)
	if _, _, ok := s.reference(); ok || text == "" || strings.HasPrefix(text, embeddedPrefix) {
		return text
	}
	u, err := url.Parse(text)
	// Behind a password whose / is not escaped stands the host: what is read as the path is the rest of the password.
	if err != nil || !isPostgresURL(text) || strings.Contains(u.Path, "@") {
		return redacted
	}
	// A password may stand in the user's part, or among the parameters.
	u.RawQuery, u.Fragment = "", ""
	// net/url leaves the slashes out where nothing stands behind them, as in postgres://, which leaves all to the environment.
	shown := u.Redacted()
	if shown == u.Scheme+":" {
		shown += "//"
	}
	return shown
}

// GoString redacts the secret under %#v.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.String()) }

// LogValue redacts the secret in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText redacts the secret in JSON and other text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML redacts the secret in YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
