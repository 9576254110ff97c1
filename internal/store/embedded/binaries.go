package embedded

import (
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
type binaries struct{ dir string }

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// installations are where distributions put the server's programs, which are seldom in the PATH.
var installations = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin", "/usr/local/pgsql/bin",
}

// findBinaries returns the installation of the given major version, or the newest where version is "".
func findBinaries(version string) (binaries, error) {
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
	var found []binaries
	for _, dir := range dirs {
		b := binaries{dir}
		if b.complete() {
			found = append(found, b)
		}
	}
	if len(found) == 0 {
		return binaries{}, &NotInstalledError{}
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return majorOf(b) - majorOf(a) })
	if version == "" {
		return found[0], nil
	}
	for _, b := range found {
		if strconv.Itoa(majorOf(b)) == version {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("the data were made by Postgres %s, but only version %d is installed: install postgresql-%s, "+
		"or move the data with pg_dump", version, majorOf(found[0]), version)
}

func (b binaries) complete() bool {
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := os.Stat(b.path(name)); err != nil {
			return false
		}
	}
	return true
}

// majorOf asks the server for its major version; 0 where it does not say.
func majorOf(b binaries) int {
	out, err := exec.Command(b.path("postgres"), "--version").Output() //nolint:noctx,gosec // ends at once; the path is an installation's
	if err != nil {
		return 0
	}
	for field := range strings.FieldsSeq(string(out)) {
		major, _, _ := strings.Cut(field, ".")
		if n, err := strconv.Atoi(major); err == nil {
			return n
		}
	}
	return 0
}

// clusterVersion reads the major version that a data directory was made by; "" where there is none.
func clusterVersion(data string) (string, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the cluster's version: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
