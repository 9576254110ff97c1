package archtest

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
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

var update = flag.Bool("update", false, "write the tests into docs/conformance.md")

const (
	root            = "../.."
	conformanceFile = root + "/docs/conformance.md"
	// checklist is where the wire protocol checklist lies, if it does, beside the repository.
	checklist = root + "/../shared/protocol.md"
)

// rules says how many rules each chapter of the checklist has: DISC-1 to DISC-7, and so on.
var rules = []struct {
	chapter string
	count   int
}{
	{"DISC", 7},
	{"KEY", 8},
	{"JWT", 8},
	{"TOK", 9},
	{"USE", 7},
	{"KICK", 10},
	{"POLL", 10},
	{"MAN", 14},
	{"FILE", 14},
	{"ND", 9},
	{"ATT", 3},
	{"DEL", 3},
	{"INC", 11},
	{"CLN", 3},
	{"ERR", 3},
	{"VER", 1},
}

func ruleIDs() []string {
	var ids []string
	for _, r := range rules {
		for i := range r.count {
			ids = append(ids, r.chapter+"-"+strconv.Itoa(i+1))
		}
	}
	return ids
}

// provingNothing are packages whose tests do not prove what the client does.
var provingNothing = []string{"internal/payersim", "internal/archtest"}

// row is a rule's line in docs/conformance.md.
type row struct{ id, title, code, tests, kept string }

func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", r.id, r.title, r.code, r.tests, r.kept)
}

var rowStart = regexp.MustCompile(`^\| [A-Z]+-[0-9]+ \|`)

// parseRow reads a line of the table of rules; false where it is another line.
func parseRow(line string) (row, bool) {
	if !rowStart.MatchString(line) {
		return row{}, false
	}
	cells := strings.Split(strings.Trim(line, "| "), " | ")
	for len(cells) < 5 {
		cells = append(cells, "")
	}
	return row{cells[0], cells[1], cells[2], cells[3], strings.Join(cells[4:], " | ")}, true
}

var codeReference = regexp.MustCompile("`([^`#]+)#([^`]+)`")

// check says what is wrong with a row: tests are those that carry the rule's number, and declares tells whether a file of the
// repository declares a name.
func (r row) check(tests []string, declares func(file, name string) bool) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, r.id+": "+fmt.Sprintf(format, args...)) }
	yes := r.kept == "yes"
	_, why, _ := strings.Cut(r.kept, ": ")
	switch {
	case r.title == "":
		say("has no title")
	case !yes && (why == "" || !strings.HasPrefix(r.kept, "partly: ") && !strings.HasPrefix(r.kept, "no: ")):
		say("kept is %q: expected yes, or partly: or no: with a reason", r.kept)
	}
	references := codeReference.FindAllStringSubmatch(r.code, -1)
	if len(references) == 0 && (yes || r.code != "-") {
		say("names no code: expected `file#name`, or - for a rule that is not kept")
	}
	for _, reference := range references {
		if !declares(reference[1], reference[2]) {
			say("%s declares no %s", reference[1], reference[2])
		}
	}
	_, reason, excused := strings.Cut(r.tests, "none: ")
	switch listed := listTests(tests); {
	case len(tests) == 0 && (!excused || reason == ""):
		say("no test carries its number, as in Test%s_…, and no reason is given: expected none: and the reason", strings.ReplaceAll(r.id, "-", ""))
	case len(tests) > 0 && r.tests != listed:
		say("the tests are\n\t%s\nand the table has\n\t%s\n(go test ./internal/archtest -update writes them)", listed, r.tests)
	}
	return wrong
}

func listTests(tests []string) string {
	if len(tests) == 0 {
		return "none"
	}
	return "`" + strings.Join(tests, "`, `") + "`"
}

func TestConformance_names_code_and_tests_of_every_rule(t *testing.T) {
	t.Parallel()
	tests, declared := survey(t)
	data, err := os.ReadFile(conformanceFile)
	if err != nil {
		t.Fatal(err)
	}
	declares := func(file, name string) bool { return declared[file][name] }
	lines := strings.Split(string(data), "\n")
	var ids []string
	for i, line := range lines {
		r, ok := parseRow(line)
		if !ok {
			continue
		}
		ids = append(ids, r.id)
		if *update && (len(tests[r.id]) > 0 || !strings.HasPrefix(r.tests, "none: ")) {
			r.tests = listTests(tests[r.id])
			lines[i] = r.String()
		}
		for _, wrong := range r.check(tests[r.id], declares) {
			t.Error(wrong)
		}
	}
	if want := ruleIDs(); !slices.Equal(ids, want) {
		t.Errorf("the table has the rules %v\nwant                    %v", ids, want)
	}
	if *update {
		if err := os.WriteFile(conformanceFile, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformance_has_the_rules_of_the_checklist(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(checklist)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the checklist does not lie beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, match := range regexp.MustCompile(`(?m)^- \*\*([A-Z]+-[0-9]+) `).FindAllStringSubmatch(string(data), -1) {
		ids = append(ids, match[1])
	}
	if want := ruleIDs(); !slices.Equal(ids, want) {
		t.Errorf("the checklist has the rules %v\nwant                        %v", ids, want)
	}
}

// survey reads all Go files of the repository: which tests carry the number of which rule, and which file declares what.
func survey(t *testing.T) (tests map[string][]string, declared map[string]map[string]bool) {
	t.Helper()
	tests, declared = make(map[string][]string), make(map[string]map[string]bool)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && (strings.HasPrefix(entry.Name(), ".") || slices.Contains([]string{"build", "testdata"}, entry.Name())) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		names := declarations(file)
		if !strings.HasSuffix(relative, "_test.go") {
			declared[relative] = names
			return nil
		}
		pkg := path.Dir(relative)
		if slices.Contains(provingNothing, pkg) {
			return nil
		}
		for test := range names {
			for _, id := range rulesOf(test) {
				tests[id] = append(tests[id], path.Base(pkg)+"."+test)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range tests {
		slices.Sort(list)
	}
	return tests, declared
}

// declarations are the names that a file declares at its top: functions, methods, types, variables and constants.
func declarations(file *ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names[name.Name] = true
					}
				}
			}
		}
	}
	return names
}

var ruleInName = regexp.MustCompile(`^([A-Z]+)([0-9]+)$`)

// rulesOf are the rules whose numbers the name of a test carries, as in TestMAN6_MAN7_….
func rulesOf(name string) []string {
	rest, isTest := strings.CutPrefix(name, "Test")
	if !isTest {
		if rest, isTest = strings.CutPrefix(name, "Fuzz"); !isTest {
			return nil
		}
	}
	var ids []string
	for word := range strings.SplitSeq(rest, "_") {
		match := ruleInName.FindStringSubmatch(word)
		if match == nil {
			continue
		}
		if id := match[1] + "-" + match[2]; slices.Contains(ruleIDs(), id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestConformance_finds_what_is_wrong_with_a_row(t *testing.T) {
	t.Parallel()
	const code = "`internal/export/poll.go#Poll`"
	declares := func(file, name string) bool { return file == "internal/export/poll.go" && name == "Poll" }
	for _, tt := range []struct {
		name  string
		row   string
		tests []string
		want  string
	}{
		{"right", "| POLL-1 | It polls | " + code + " | `export.TestPOLL1_x` | yes |", []string{"export.TestPOLL1_x"}, ""},
		{"an excuse", "| POLL-1 | It polls | " + code + " | none: needs a week | partly: mostly |", nil, ""},
		{"not kept", "| POLL-1 | It polls | - | none: not built yet | no: not built yet |", nil, ""},
		{"no test", "| POLL-1 | It polls | " + code + " | none | yes |", nil, "no test carries its number, as in TestPOLL1_"},
		{"an empty excuse", "| POLL-1 | It polls | " + code + " | none:  | yes |", nil, "no reason is given"},
		{
			"a test that is gone", "| POLL-1 | It polls | " + code + " | `export.TestPOLL1_x`, `export.TestPOLL1_y` | yes |",
			[]string{"export.TestPOLL1_x"},
			"the tests are",
		},
		{"an excuse beside a test", "| POLL-1 | It polls | " + code + " | none: soon | yes |", []string{"export.TestPOLL1_x"}, "the tests are"},
		{"no such code", "| POLL-1 | It polls | `internal/export/poll.go#Pull` | none: x | yes |", nil, "poll.go declares no Pull"},
		{"no such file", "| POLL-1 | It polls | `internal/export/pull.go#Poll` | none: x | yes |", nil, "pull.go declares no Poll"},
		{"no code", "| POLL-1 | It polls | - | none: x | yes |", nil, "names no code"},
		{"no reason", "| POLL-1 | It polls | " + code + " | none: x | partly |", nil, `kept is "partly"`},
		{"cells that are missing", "| POLL-1 | It polls |", nil, "names no code"},
	} {
		r, ok := parseRow(tt.row)
		if !ok {
			t.Fatalf("%s: %q is no row", tt.name, tt.row)
		}
		got := strings.Join(r.check(tt.tests, declares), "\n")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	for name, want := range map[string][]string{
		"TestMAN6_checksum": {"MAN-6"}, "TestJWT1_JWT2_header_and_claims": {"JWT-1", "JWT-2"}, "FuzzND1_lines": {"ND-1"},
		"TestMAN66_x": nil, "TestTOK_x": nil, "TestUTF8_x": nil, "helperMAN6_x": nil, "TestServer_MAN9": {"MAN-9"},
	} {
		if got := rulesOf(name); !slices.Equal(got, want) {
			t.Errorf("%s carries %v, want %v", name, got, want)
		}
	}
}
