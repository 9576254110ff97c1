package reliability

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Rows is how many faults the table has.
const Rows = 70

// Row is a line of the table.
type Row struct {
	Number   int
	Fault    string
	Required string // what is to happen
	Tests    []Test
	Kept     string // yes, or partly: or no: with the reason
}

// Test is a test that provokes a fault: its package, by the last element of its path, its function, and which of its subtests.
type Test struct{ Package, Function, Subtest string }

func (t Test) String() string {
	if t.Subtest == "" {
		return t.Package + "." + t.Function
	}
	return t.Package + "." + t.Function + "/" + t.Subtest
}

var (
	rowStart      = regexp.MustCompile(`^\| ([0-9]+) \|`)
	testReference = regexp.MustCompile("`([a-z0-9]+)\\.(Test[^`/]*)(?:/([^`]+))?`")
)

// Parse reads the table. Lines that are no rows are passed over; a row of another form is an error.
func Parse(page string) ([]Row, error) {
	var rows []Row
	for line := range strings.SplitSeq(page, "\n") {
		found := rowStart.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		const columns = 5
		if len(cells) != columns {
			return nil, fmt.Errorf("row %s has %d cells, want %d", found[1], len(cells), columns)
		}
		number, err := strconv.Atoi(found[1])
		if err != nil {
			return nil, fmt.Errorf("row %s: %w", found[1], err)
		}
		r := Row{Number: number, Fault: cells[1], Required: cells[2], Kept: cells[4]}
		for _, reference := range testReference.FindAllStringSubmatch(cells[3], -1) {
			r.Tests = append(r.Tests, Test{reference[1], reference[2], reference[3]})
		}
		if written := r.testCell(); written != cells[3] {
			return nil, fmt.Errorf("row %d: the tests are read as %s, and written %s", number, written, cells[3])
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// testCell is how the tests of a row are written.
func (r Row) testCell() string {
	if len(r.Tests) == 0 {
		return "none"
	}
	names := make([]string, len(r.Tests))
	for i, t := range r.Tests {
		names[i] = "`" + t.String() + "`"
	}
	return strings.Join(names, ", ")
}

// Check says what is wrong with the form of the table: each fault has its row, in order, and each row a test or a reason.
func Check(rows []Row) []string {
	var wrong []string
	if len(rows) != Rows {
		wrong = append(wrong, fmt.Sprintf("the table has %d rows, want %d", len(rows), Rows))
	}
	for i, r := range rows {
		say := func(text string) { wrong = append(wrong, fmt.Sprintf("row %d: %s", r.Number, text)) }
		if r.Number != i+1 {
			say(fmt.Sprintf("stands where row %d belongs", i+1))
		}
		if r.Fault == "" || r.Required == "" {
			say("says no fault, or not what is to happen")
		}
		verdict, reason, _ := strings.Cut(r.Kept, ": ")
		switch {
		case r.Kept == "yes", verdict == "partly" && reason != "":
			if len(r.Tests) == 0 {
				say("is kept, and no test shows it")
			}
		case verdict == "no" && reason != "":
		default:
			say(fmt.Sprintf("kept is %q: expected yes, or partly: or no: with a reason", r.Kept))
		}
	}
	return wrong
}

// Matches reports whether a subtest is meant: by its name, or by a number that is a word of it. names are the elements of the
// subtest's path, below the function.
func (t Test) Matches(names []string) bool {
	if t.Subtest == "" {
		return len(names) == 0
	}
	if len(names) == 0 {
		return false
	}
	if names[0] == t.Subtest {
		return true
	}
	if _, err := strconv.Atoi(t.Subtest); err != nil {
		return false
	}
	for word := range strings.SplitSeq(names[0], "_") {
		if word == t.Subtest {
			return true
		}
		if _, err := strconv.Atoi(word); err != nil {
			return false // the numbers stand in front
		}
	}
	return false
}
