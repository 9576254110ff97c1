package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// NotInstalledError says that there are no Postgres server binaries on this machine, and which package has them.
type NotInstalledError struct{}

func (*NotInstalledError) Error() string {
	return "no Postgres server is installed here: install it with 'apt-get install postgresql' (Debian, Ubuntu), " +
		"'dnf install postgresql-server' (Fedora, RHEL), 'apk add postgresql' (Alpine) or 'brew install postgresql' (macOS), " +
		"or set database.url to a server elsewhere"
}

// binaries are the programs of one Postgres installation.
type binaries struct {
	dir   string
	major int
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// installations are where distributions put the server's programs, which are seldom in the PATH.
var installations = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin", "/usr/local/pgsql/bin",
}

// minMajor is the oldest Postgres that knows lz4, which the store's tables are compressed with.
const minMajor = 14

// findBinaries returns the installation of the given major version, or the newest where version is "".
func findBinaries(ctx context.Context, version string) (binaries, error) {
	var dirs []string
	for _, pattern := range installations {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if resolved, err := filepath.EvalSymlinks(initdb); err == nil {
			dirs = append(dirs, filepath.Dir(resolved))
		}
	}
	slices.Sort(dirs) // the PATH names one of the others, mostly, and each is asked for its version
	var found []binaries
	var broken error
	for _, dir := range slices.Compact(dirs) {
		b := binaries{dir: dir}
		if !b.complete() {
			continue
		}
		var err error
		if b.major, err = majorOf(ctx, b); err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		found = append(found, b)
	}
	if len(found) == 0 && broken != nil {
		return binaries{}, broken
	}
	if len(found) == 0 {
		return binaries{}, &NotInstalledError{}
	}
	newest := slices.MaxFunc(found, func(a, b binaries) int { return a.major - b.major })
	if version == "" && newest.major < minMajor {
		return binaries{}, fmt.Errorf("the newest Postgres that is installed is version %d (%s), which is too old: install "+
			"version %d or newer", newest.major, newest.dir, minMajor)
	}
	if version == "" {
		return newest, nil
	}
	for _, b := range found {
		if strconv.Itoa(b.major) == version {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("the data were made by Postgres %s, which is not installed (version %d is): install "+
		"postgresql-%s, or move the data with pg_dump", version, newest.major, version)
}

func (b binaries) complete() bool {
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := os.Stat(b.path(name)); err != nil {
			return false
		}
	}
	return true
}

// majorOf asks the server for its major version.
func majorOf(ctx context.Context, b binaries) (int, error) {
	out, err := exec.CommandContext(ctx, b.path("postgres"), "--version").Output() //nolint:gosec // an installation's path
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", b.path("postgres"), err)
	}
	for field := range strings.FieldsSeq(string(out)) { // postgres (PostgreSQL) 17.2 (Debian 17.2-1)
		if n, err := strconv.Atoi(leadingDigits(field)); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("ask %s for its version: it says %q", b.path("postgres"), out)
}

// leadingDigits is the major version in 17.2 and 18beta1.
func leadingDigits(text string) string {
	return text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
}
