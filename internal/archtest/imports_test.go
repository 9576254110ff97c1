package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// may lists, for each package, which of ours it may import. Tests may import what they need, but for what is listed in
// never.
var may = map[string][]string{
	"internal/fhir":           {},
	"internal/config":         {"internal/fhir"},
	"internal/outbound":       {"internal/config"},
	"internal/smartauth":      {"internal/config"},
	"internal/awssecrets":     {"internal/config", "internal/smartauth"},
	"internal/export":         {"internal/config", "internal/fhir", "internal/outbound", "internal/smartauth"},
	"internal/store":          {"internal/fhir", "migrations"},
	"internal/store/embedded": {},
	"internal/scheduler":      {"internal/config", "internal/export", "internal/smartauth", "internal/store"},
	"internal/ops":            {"internal/config", "internal/scheduler", "internal/store"},
	"internal/daemon": {
		"internal/awssecrets", "internal/config", "internal/export", "internal/ops", "internal/outbound", "internal/scheduler",
		"internal/smartauth", "internal/store", "internal/store/embedded",
	},
	"internal/payersim": {"internal/fhir"},
	"internal/verify":   {"internal/fhir"},
	"internal/testpg":   {"internal/store/embedded"},
	"internal/demo":     {"internal/config", "internal/daemon", "internal/payersim", "internal/smartauth", "internal/store", "internal/verify"},
	"internal/e2e":      {},
	"internal/archtest": {},
	"migrations":        {},
	"cmd/ingestd":       nil, // everything
}

// never lists what not even the tests of a package import.
var never = map[string][]string{
	"internal/export": {"internal/store", "internal/scheduler"},
	"internal/store":  {"internal/export", "internal/smartauth", "internal/scheduler"},
	"internal/fhir":   {"internal/config", "internal/store", "internal/export"},
}

func TestImports_point_down_only(t *testing.T) {
	t.Parallel()
	const root = "../.."
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != root || entry.Name() == "build" || entry.Name() == "tools") {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		files++
		relative, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		check(t, filepath.ToSlash(relative), path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("read %d files only: the test looks in the wrong place", files)
	}
}

func check(t *testing.T, pkg, path string) {
	t.Helper()
	allowed, known := may[pkg]
	if !known {
		t.Errorf("%s: package %s is not listed: say in this test what it may import", path, pkg)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	isTest := strings.HasSuffix(path, "_test.go")
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		ours, ok := strings.CutPrefix(name, "ingestd/")
		switch {
		case !ok || ours == pkg:
		case slices.Contains(never[pkg], ours):
			t.Errorf("%s imports %s, which %s must not know", path, ours, pkg)
		case !isTest && allowed != nil && !slices.Contains(allowed, ours):
			t.Errorf("%s imports %s: %s may import %v", path, ours, pkg, allowed)
		}
	}
}
