package failpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository's.
const root = "../.."

func TestPoints_are_all_listed_and_each_is_a_place_in_the_code(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "points.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]int) // name of the constant → places
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Point" {
				declared[spec.Names[0].Name] = 0
			}
		}
		return true
	})
	if len(declared) != len(points) {
		t.Errorf("%d points are declared, %d are listed", len(declared), len(points))
	}
	sorted := slices.Sorted(slices.Values(points))
	if len(slices.Compact(sorted)) != len(points) {
		t.Error("points have the same name")
	}
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && isSelector(call.Fun, "Here") && len(call.Args) == 1 {
					if point, ok := call.Args[0].(*ast.SelectorExpr); ok {
						declared[point.Sel.Name]++
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
	for name, places := range declared {
		if places == 0 {
			t.Errorf("%s is nowhere in the code", name)
		}
	}
}

// isSelector reports whether an expression is failpoint.name.
func isSelector(e ast.Expr, name string) bool {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "failpoint" && selector.Sel.Name == name
}
