package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ingestd/internal/reliability"
)

const reliabilityFile = root + "/docs/reliability.md"

// TestReliability_names_tests_of_every_fault holds the page to the code: every fault has its row, and every test that a row names exists.
func TestReliability_names_tests_of_every_fault(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(reliabilityFile)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := reliability.Parse(string(page))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range reliability.Check(rows) {
		t.Error(wrong)
	}
	functions, texts := testFunctions(t)
	for _, r := range rows {
		for _, test := range r.Tests {
			name := test.Package + "." + test.Function
			if !functions[name] {
				t.Errorf("row %d: there is no %s", r.Number, name)
			}
			found := test.Subtest == ""
			for _, text := range texts[test.Package] {
				found = found || test.Matches([]string{text})
			}
			if !found {
				t.Errorf("row %d: %s has no such subtest", r.Number, test)
			}
		}
	}
}

// testFunctions are the functions of all tests, and the texts in the test files of each package, written as names of subtests are.
func testFunctions(t *testing.T) (functions map[string]bool, texts map[string][]string) {
	t.Helper()
	functions, texts = make(map[string]bool), make(map[string][]string)
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			pkg := path.Base(filepath.ToSlash(filepath.Dir(name)))
			for _, declaration := range file.Decls {
				if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil {
					functions[pkg+"."+f.Name.Name] = true
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					if text, err := strconv.Unquote(literal.Value); err == nil {
						texts[pkg] = append(texts[pkg], strings.ReplaceAll(text, " ", "_"))
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return functions, texts
}
