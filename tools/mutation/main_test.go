package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestMutants_are_up_to_date proves, without running a mutant, that each stands once in its file, still parses when it is broken, and
// that a test of the name that is to notice exists.
func TestMutants_are_up_to_date(t *testing.T) {
	t.Parallel()
	const root = "../.."
	names := make(map[string]bool)
	if len(mutants) < 25 {
		t.Errorf("there are %d mutants, want at least 25", len(mutants))
	}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("%s stands twice in the list", m.name)
		}
		names[m.name] = true
		text, err := m.broken(root)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, parser.SkipObjectResolution); err != nil {
			t.Errorf("%s does not parse: %v", m.name, err)
		}
		if !hasTest(t, filepath.Join(root, m.pkg), regexp.MustCompile(m.run)) {
			t.Errorf("%s: no test of %s matches %s", m.name, m.pkg, m.run)
		}
	}
}

var declaration = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]*)\(`)

func hasTest(t *testing.T, dir string, pattern *regexp.Regexp) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range declaration.FindAllSubmatch(data, -1) {
			if pattern.Match(match[1]) {
				return true
			}
		}
	}
	return false
}
