package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// may lists, for each package, which of ours its production code may import. Tests may import what they need, but for what
// is listed in never.
var may = map[string][]string{
	"internal/ecs":            {},
	"internal/fhir":           {},
	"internal/config":         {"internal/fhir"},
	"internal/outbound":       {"internal/config"},
	"internal/failpoint":      {},
	"internal/smartauth":      {"internal/config", "internal/failpoint"},
	"internal/awssecrets":     {"internal/config", "internal/smartauth"},
	"internal/export":         {"internal/config", "internal/fhir", "internal/outbound", "internal/smartauth"},
	"internal/store":          {"internal/failpoint", "internal/fhir", "migrations"},
	"internal/store/embedded": {},
	"internal/exportlog":      {},
	"internal/notify":         {"internal/config", "internal/outbound"},
	"internal/scheduler": {
		"internal/config", "internal/export", "internal/exportlog", "internal/failpoint", "internal/notify", "internal/outbound", "internal/smartauth", "internal/store",
		"internal/tracing",
	},
	"internal/ops": {"internal/config", "internal/fhir", "internal/outbound", "internal/scheduler", "internal/store"},
	"internal/ops/page": {
		"internal/config", "internal/fhir", "internal/ops", "internal/scheduler", "internal/smartauth", "internal/store",
	},
	"internal/daemon": {
		"internal/awssecrets", "internal/config", "internal/ecs", "internal/export", "internal/exportlog", "internal/notify", "internal/ops", "internal/ops/page", "internal/outbound", "internal/scheduler",
		"internal/smartauth", "internal/store", "internal/store/embedded", "internal/tracing",
	},
	"internal/tracing":     {"internal/config"},
	"internal/payersim":    {"internal/fhir"},
	"internal/verify":      {"internal/fhir"},
	"internal/reliability": {},
	"cmd/faults":           {"internal/reliability"},
	"internal/testpg":      {"internal/store/embedded"},
	"internal/demo":        {"internal/config", "internal/daemon", "internal/payersim", "internal/smartauth", "internal/store", "internal/verify"},
	"internal/e2e":         {},
	"internal/archtest":    {},
	"internal/bench":       {"internal/config", "internal/export", "internal/fhir", "internal/payersim", "internal/smartauth", "internal/store/embedded"},
	"cmd/bench":            {"internal/bench"},
	"migrations":           {},
	"docs":                 {},
	"internal/chaos":       {"internal/payersim", "internal/smartauth", "internal/store/embedded", "internal/verify"},
	"cmd/chaos":            {"internal/chaos"},
	"cmd/ingestd": {
		"docs", "internal/config", "internal/daemon", "internal/demo", "internal/fhir", "internal/notify", "internal/ops", "internal/payersim",
		"internal/scheduler", "internal/smartauth", "internal/store", "internal/store/embedded",
	},
}

// never lists what not even the tests of a package import: ours, and what the package leaves to others. A name stands for
// all that is below it, too.
var never = map[string][]string{
	"internal/config":    {"net/http", "database/sql", "github.com/jackc/pgx"},
	"internal/export":    {"internal/store", "internal/scheduler", "database/sql", "github.com/jackc/pgx"},
	"internal/fhir":      {"internal", "net/http", "database/sql", "github.com/jackc/pgx"},
	"internal/notify":    {"internal/export", "internal/store", "internal/scheduler", "database/sql", "github.com/jackc/pgx"},
	"internal/outbound":  {"internal/export", "internal/store", "internal/scheduler", "database/sql", "github.com/jackc/pgx"},
	"internal/smartauth": {"internal/export", "internal/store", "internal/scheduler", "database/sql", "github.com/jackc/pgx"},
	"internal/store":     {"internal/export", "internal/smartauth", "internal/scheduler", "net/http"},
}

// only lists packages that are not for production, and where they are used nevertheless: a file, or a directory with a /.
var only = map[string][]string{
	"internal/archtest": {},
	"internal/bench":    {"cmd/bench/"},
	"internal/chaos":    {"cmd/chaos/"},
	"internal/demo":     {"cmd/ingestd/demo.go"},
	"internal/e2e":      {},
	"internal/payersim": {"cmd/ingestd/payersim.go", "internal/bench/", "internal/chaos/", "internal/demo/"},
	"internal/testpg":   {},
	"internal/verify":   {"internal/chaos/", "internal/demo/"},
}

// violations says which imports the file at path, relative to the repository, should not have.
func violations(path string, imports []string) []string {
	pkg := filepath.ToSlash(filepath.Dir(path))
	allowed, known := may[pkg]
	if !known {
		return []string{fmt.Sprintf("%s: package %s is not listed: say in internal/archtest what it may import", path, pkg)}
	}
	var found []string
	isTest := strings.HasSuffix(path, "_test.go")
	for _, name := range imports {
		ours, isOurs := strings.CutPrefix(name, "ingestd/")
		forbidden := slices.ContainsFunc(never[pkg], func(prefix string) bool {
			return ours == prefix || strings.HasPrefix(ours, prefix+"/")
		})
		places, restricted := only[ours]
		switch {
		case isOurs && ours == pkg: // an external test
		case forbidden:
			found = append(found, fmt.Sprintf("%s imports %s, which %s must not know", path, name, pkg))
		case isTest || !isOurs:
		case !slices.Contains(allowed, ours):
			found = append(found, fmt.Sprintf("%s imports %s: %s may import %v", path, ours, pkg, allowed))
		case restricted && !slices.ContainsFunc(places, func(place string) bool {
			return path == place || strings.HasSuffix(place, "/") && strings.HasPrefix(path, place)
		}):
			found = append(found, fmt.Sprintf("%s imports %s, which only %v and tests may", path, ours, places))
		}
	}
	return found
}

func TestImports_point_down_only(t *testing.T) {
	t.Parallel()
	const root = "../.."
	packages := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(entry.Name(), ".") || relative == "build" || relative == "tools" ||
				entry.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		packages[filepath.ToSlash(filepath.Dir(relative))] = true
		for _, violation := range violations(filepath.ToSlash(relative), importsOf(t, path)) {
			t.Error(violation)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range may {
		if !packages[pkg] {
			t.Errorf("package %s is listed, but has no file", pkg)
		}
	}
}

func importsOf(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func TestViolations_are_found(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, imports string
		want                bool
	}{
		{"down", "internal/scheduler/load_file.go", "ingestd/internal/export", false},
		{"up", "internal/export/poll.go", "ingestd/internal/scheduler", true},
		{"export knows store", "internal/export/poll.go", "ingestd/internal/store", true},
		{"store knows export", "internal/store/load.go", "ingestd/internal/export", true},
		{"a test of store knows export", "internal/store/load_test.go", "ingestd/internal/export", true},
		{"a test of smartauth uses the simulated payer", "internal/smartauth/payersim_test.go", "ingestd/internal/payersim", false},
		{"the simulated payer's own subcommand", "cmd/ingestd/payersim.go", "ingestd/internal/payersim", false},
		{"the simulated payer in the demo", "internal/demo/payers.go", "ingestd/internal/payersim", false},
		{"the simulated payer in another subcommand", "cmd/ingestd/serve.go", "ingestd/internal/payersim", true},
		{"the simulated payer in the daemon", "internal/daemon/daemon.go", "ingestd/internal/payersim", true},
		{"SQL in the client", "internal/export/poll.go", "github.com/jackc/pgx/v5", true},
		{"HTTP in the store", "internal/store/load.go", "net/http", true},
		{"fhir is a leaf", "internal/fhir/scan.go", "ingestd/internal/config", true},
		{"config knows fhir", "internal/config/check.go", "ingestd/internal/fhir", false},
		{"config knows nothing else", "internal/config/check.go", "ingestd/internal/smartauth", true},
		{"an external test", "internal/fhir/scan_test.go", "ingestd/internal/fhir", false},
		{"a package that nobody has thought of", "internal/util/util.go", "fmt", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := violations(tt.path, []string{tt.imports}); (len(got) > 0) != tt.want {
				t.Errorf("violations(%s, %s) = %q; want one: %t", tt.path, tt.imports, got, tt.want)
			}
		})
	}
}
