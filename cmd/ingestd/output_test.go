package main

import (
	"encoding/csv"
	"encoding/json"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTable_aligns_text_to_the_left_and_numbers_to_the_right(t *testing.T) {
	t.Parallel()
	table := newTable("NAME", ">LINES", "WHAT")
	table.row("ä", 12, "")
	table.row("longer\x1b[31m\ttab", 1234567, "the last column is not padded")
	var b strings.Builder
	if err := table.print(&b); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME               LINES  WHAT\n" +
		"ä                     12  -\n" +
		"longer [31m tab  1234567  the last column is not padded\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// inner and outer are a value as commands list it.
type inner struct {
	Code string `json:"code"`
	Rows int64  `json:"rows"`
}

type outer struct {
	Numbered
	At     *time.Time     `json:"at"`
	Names  []string       `json:"names"`
	Last   *inner         `json:"last"`
	More   map[string]any `json:"more"`
	Share  float64        `json:"share"`
	Secret string         `json:"-"`
}

// Numbered is embedded: its members are those of what it is in.
type Numbered struct {
	ID int `json:"id"`
}

func TestCSV_has_the_members_of_the_JSON_as_columns_and_no_formulas(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))
	items := []outer{
		{Numbered: Numbered{1}, At: &at, Names: []string{"a", "b"}, Last: &inner{"=cmd|' /C calc'!A0", -3}, More: map[string]any{"n": 1}, Share: 0.5},
		{Numbered: Numbered{2}, Secret: "never"},
	}
	var b strings.Builder
	if err := printCSV(&b, items); err != nil {
		t.Fatal(err)
	}
	got, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"id", "at", "names", "last_code", "last_rows", "more", "share"},
		{"1", "2026-01-02T02:04:05Z", "a b", "'=cmd|' /C calc'!A0", "-3", `{"n":1}`, "0.5"},
		{"2", "", "", "", "", "", "0"},
	}
	for i, row := range got {
		if !reflect.DeepEqual(row, want[i]) {
			t.Errorf("row %d: got %q, want %q", i, row, want[i])
		}
	}
}

func TestJSON_is_printed_so_that_a_terminal_takes_it_for_text_and_says_the_same(t *testing.T) {
	t.Parallel()
	want := map[string]string{"a": "\x1b[2J\u009b31m\u202e\u2028 é ж \U000e0041 \U0001f600 \\u001b \"<&>\n"}
	var lines, line strings.Builder
	if err := printJSON(&lines, want); err != nil {
		t.Fatal(err)
	}
	if err := printJSONLine(&line, want); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{lines.String(), line.String()} {
		if strings.ContainsAny(text, "\x1b\u009b\u202e\u2028\U000e0041") || !strings.Contains(text, "é ж") {
			t.Errorf("got %q", text)
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}

func TestMain_leaves_no_core_dumps(t *testing.T) {
	var before, after syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) })
	if before.Max > 0 { // as where they are switched on
		if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: before.Max, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	withoutCoreDumps()
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &after); err != nil || after.Cur != 0 {
		t.Errorf("core dumps of %d bytes are allowed, %v", after.Cur, err)
	}
}
