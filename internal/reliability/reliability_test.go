package reliability

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const module = `package x

import "testing"

func TestGood(t *testing.T) {
	for _, name := range []string{"3 4 a", "4 b", "c 3"} {
		t.Run(name, func(t *testing.T) {})
	}
}

func TestBad(t *testing.T) {
	t.Run("5 fine", func(t *testing.T) {})
	t.Run("6 broken", func(t *testing.T) { t.Error("this is broken") })
}

func TestSkipped(t *testing.T) {
	t.Run("a part", func(t *testing.T) { t.Skip("no") })
}
`

const page = `
| # | fault | what must happen | tests | kept |
|---|---|---|---|---|
| 1 | good | it passes | ` + "`x.TestGood`" + ` | yes |
| 2 | by number | it passes | ` + "`x.TestGood/4`, `x.TestBad/5`" + ` | partly: so |
| 3 | a failure | it fails | ` + "`x.TestGood/3`, `x.TestBad/6`" + ` | yes |
| 4 | a skip | it fails | ` + "`x.TestSkipped`" + ` | yes |
| 5 | not there | it fails | ` + "`x.TestNowhere`" + ` | yes |
| 6 | no test | nothing | none | no: not yet |
`

func TestRun_says_of_each_row_what_came_of_exactly_its_tests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module x\n", "x_test.go": module} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	proofs, err := Run(t.Context(), Options{
		Go: "go", Dir: dir, Packages: func(string) (Package, error) { return Package{Path: "."}, nil },
	}, rows, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	want := [][]Result{
		{{"x.TestGood", "pass", 1, 0}},
		{{"x.TestGood/4", "pass", 2, 0}, {"x.TestBad/5", "pass", 1, 0}},
		{{"x.TestGood/3", "pass", 1, 0}, {"x.TestBad/6", "fail", 1, 0}},
		{{"x.TestSkipped", "skip", 1, 0}},
		{{"x.TestNowhere", "missing", 0, 0}},
		{},
	}
	for i, p := range proofs {
		for j := range p.Tests {
			p.Tests[j].Seconds = 0
		}
		got, _ := json.Marshal(p.Tests)
		expected, _ := json.Marshal(want[i])
		if !bytes.Equal(got, expected) {
			t.Errorf("row %d: got %s, want %s", p.Number, got, expected)
		}
	}
	if !strings.Contains(log.String(), "this is broken") || strings.Contains(log.String(), "TestGood") {
		t.Errorf("the log is\n%s", &log)
	}
	summary := Summarize(proofs, time.Second)
	if summary.Proven != 2 || summary.Failed != 3 || summary.NotKept != 1 || summary.Whole() {
		t.Errorf("got %+v", summary)
	}
	var printed strings.Builder
	if err := summary.Print(&printed); err != nil || strings.Count(printed.String(), "\n") != 11 {
		t.Errorf("printed is\n%s%v", &printed, err)
	}
	if !Summarize(proofs[:2], 0).Whole() {
		t.Error("two proven rows are not whole")
	}
}

func TestCheck_finds_what_is_wrong_with_a_table(t *testing.T) {
	t.Parallel()
	rows, err := Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	if got := Check(rows); len(got) != 1 || !strings.Contains(got[0], "has 6 rows") {
		t.Errorf("got %q, want the number of rows alone", got)
	}
	for row, want := range map[string]string{
		"| 1 | a | b | none | yes |":         "no test shows it",
		"| 1 | a | b | none | partly: x |":   "no test shows it",
		"| 1 | a | b | `x.TestA` | mostly |": `kept is "mostly"`,
		"| 1 | a | b | `x.TestA` | no: |":    `kept is "no:"`,
		"| 2 | a | b | `x.TestA` | yes |":    "row 1 belongs",
		"| 1 |  | b | `x.TestA` | yes |":     "says no fault",
	} {
		rows, err := Parse(row)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(Check(rows), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", row, got, want)
		}
	}
	for _, row := range []string{"| 1 | a | b | yes |", "| 1 | a | b | x.TestA | yes |", "| 1 | a | b | `x.TestA` and `x.TestB` | yes |"} {
		if _, err := Parse(row); err == nil {
			t.Errorf("%s is read", row)
		}
	}
}
