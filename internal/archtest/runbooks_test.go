package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ingestd/internal/scheduler"
)

func TestRunbooks_have_a_heading_for_every_code(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(runbooksFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string]string)
	for section := range strings.SplitSeq(string(data), "\n### ") {
		heading, text, _ := strings.Cut(section, "\n")
		if sections[heading] != "" {
			t.Errorf("the heading %s stands twice", heading)
		}
		sections[heading] = text
	}
	codes := scheduler.Codes()
	for _, code := range codes {
		if text := sections[code]; len(strings.TrimSpace(text)) < 30 {
			t.Errorf("docs/runbooks.md says of %s: %q", code, text)
		}
	}
	for heading := range sections {
		if regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`).MatchString(heading) && !slices.Contains(codes, heading) {
			t.Errorf("docs/runbooks.md has a heading for %s, which is no code", heading)
		}
	}
	names := make(map[string]bool)
	for _, a := range alerts(t) {
		names[a.Alert] = true
	}
	for heading := range sections {
		if strings.HasPrefix(heading, "Ingestd") && !names[heading] {
			t.Errorf("docs/runbooks.md has a heading for %s, which is no alert", heading)
		}
	}
}

// A code that is written into the source is one that an operator meets: the list must not fall behind.
func TestCodes_of_the_source_are_all_in_the_list(t *testing.T) {
	t.Parallel()
	listed := scheduler.Codes()
	found := 0
	for _, pkg := range []string{"export", "outbound", "smartauth", "scheduler"} {
		err := filepath.WalkDir(root+"/internal/"+pkg, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, code := range codesIn(file) {
				found++
				if !slices.Contains(listed, code) && !slices.Contains(listed, "auth_"+code) {
					t.Errorf("%s has the code %s, which is not in scheduler.Codes", name, code)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 70 {
		t.Errorf("found %d codes only", found)
	}
}

// codesIn are the constants whose name begins with Code, and the literals that stand for a member Code.
func codesIn(file *ast.File) []string {
	var codes []string
	literal := func(e ast.Expr) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if text, err := strconv.Unquote(l.Value); err == nil && text != "" && text != "other" {
				codes = append(codes, text)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch node := n.(type) {
		case *ast.ValueSpec:
			for i, name := range node.Names {
				if strings.HasPrefix(strings.ToLower(name.Name), "code") && i < len(node.Values) {
					literal(node.Values[i])
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := node.Key.(*ast.Ident); ok && key.Name == "Code" {
				literal(node.Value)
			}
		}
		return true
	})
	return codes
}

// Links within the runbooks, and from other documents to them, lead somewhere.
func TestRunbooks_are_linked_to_by_headings_that_exist(t *testing.T) {
	t.Parallel()
	known := headings(t)
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pattern := `\(runbooks\.md#([^)]*)\)`
		if strings.HasSuffix(file, "/runbooks.md") {
			pattern = `\(#([^)]*)\)`
		}
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(data), -1) {
			links++
			if !known[match[1]] {
				t.Errorf("%s links to the runbook %s, which there is not", file, match[1])
			}
		}
	}
	if links < 15 {
		t.Errorf("found %d links only", links)
	}
}
