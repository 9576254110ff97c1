package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const securityFile = root + "/docs/security.md"

var (
	threatStart  = regexp.MustCompile(`^\| T([0-9]+) \|`)
	testNamed    = regexp.MustCompile("`([a-z0-9]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	strideLetter = regexp.MustCompile(`^[STRIDE]( [STRIDE])*$`)
)

// checkThreat says what is wrong with a row of the table of threats, whose number is to be n.
func checkThreat(line string, n int, declares func(file, name string) bool, tested func(pkg, name string) bool) []string {
	var wrong []string
	say := func(text string) { wrong = append(wrong, "T"+strconv.Itoa(n)+": "+text) }
	cells := strings.Split(strings.Trim(line, "| "), " | ")
	if len(cells) != 7 {
		return []string{"T" + strconv.Itoa(n) + ": has " + strconv.Itoa(len(cells)) + " cells, want 7"}
	}
	if cells[0] != "T"+strconv.Itoa(n) {
		say("the number is " + cells[0])
	}
	if !strideLetter.MatchString(cells[2]) {
		say("STRIDE is " + cells[2])
	}
	if slices.Contains(cells, "") {
		say("a cell is empty")
	}
	references := codeReference.FindAllStringSubmatch(cells[5], -1)
	if len(references) == 0 && cells[5] != "-" {
		say("names no code: expected `file#name`, or -")
	}
	for _, reference := range references {
		if !declares(reference[1], reference[2]) {
			say(reference[1] + " declares no " + reference[2])
		}
	}
	tests := testNamed.FindAllStringSubmatch(cells[6], -1)
	if len(tests) == 0 && !strings.HasPrefix(cells[6], "none: ") {
		say("names no test, and gives no reason: expected none: and the reason")
	}
	for _, test := range tests {
		if !tested(test[1], test[2]) {
			say("there is no test " + test[1] + "." + test[2])
		}
	}
	return wrong
}

// allTests are the tests and fuzz targets of the repository, as package.Name.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	tests := make(map[string]bool)
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for declared := range declarations(file) {
				tests[path.Base(filepath.ToSlash(filepath.Dir(name)))+"."+declared] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tests
}

func TestSecurity_names_code_and_tests_of_every_control(t *testing.T) {
	t.Parallel()
	_, declared := survey(t)
	tests := allTests(t)
	data, err := os.ReadFile(securityFile)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if !threatStart.MatchString(line) {
			continue
		}
		n++
		for _, wrong := range checkThreat(strings.TrimSpace(line), n,
			func(file, name string) bool { return declared[file][name] },
			func(pkg, name string) bool { return tests[pkg+"."+name] }) {
			t.Error(wrong)
		}
	}
	if n < 30 {
		t.Errorf("the table has %d threats, want at least 30", n)
	}
}

func TestSecurity_finds_what_is_wrong_with_a_row(t *testing.T) {
	t.Parallel()
	declares := func(file, name string) bool { return file == "a.go" && name == "F" }
	tested := func(pkg, name string) bool { return pkg == "p" && name == "TestF" }
	for row, want := range map[string]string{
		"| T1 | M | S I | a | b | `a.go#F` | `p.TestF` |":     "",
		"| T1 | M | S | a | b | - | none: make vuln |":        "",
		"| T2 | M | S | a | b | `a.go#F` | `p.TestF` |":       "the number is T2",
		"| T1 | M | X | a | b | `a.go#F` | `p.TestF` |":       "STRIDE is X",
		"| T1 | M | S | a | b | `a.go#G` | `p.TestF` |":       "declares no G",
		"| T1 | M | S | a | b | `a.go#F` | `p.TestGone` |":    "no test p.TestGone",
		"| T1 | M | S | a | b | `a.go#F` | later |":           "names no test",
		"| T1 | M | S | a | b | soon | `p.TestF` |":           "names no code",
		"| T1 | M | S | a | b | c | `a.go#F` | `p.TestF` |":   "8 cells",
		"| T1 | M | S | a | b | `a.go#F`, `b.go#F` | none: x": "b.go declares no F",
	} {
		got := strings.Join(checkThreat(row, 1, declares, tested), "\n")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", row, got, want)
		}
	}
}

// TestNothing_links_pprof proves that no package of ours imports what would put profiles and variables on a listener.
func TestNothing_links_pprof(t *testing.T) {
	t.Parallel()
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, imported := range file.Imports {
				if imported.Path.Value == `"net/http/pprof"` || imported.Path.Value == `"expvar"` {
					t.Errorf("%s imports %s", name, imported.Path.Value)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
