package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// The forms of output. Text and table are names for the same: what is for the eye.
const (
	formatTable = "table"
	formatText  = "text"
	formatJSON  = "json"
	formatCSV   = "csv"
)

// format is the flag --output; its first allowed value is the default.
type format struct {
	value   string
	allowed []string
}

// String implements pflag.Value.
func (f *format) String() string { return f.value }

// Type implements pflag.Value; help shows it as the flag's argument.
func (f *format) Type() string { return strings.Join(f.allowed, "|") }

// Set implements pflag.Value.
func (f *format) Set(value string) error {
	if value == formatText || value == formatTable {
		value = f.allowed[0]
	}
	if !slices.Contains(f.allowed, value) {
		last := len(f.allowed) - 1
		return errors.New("expected " + strings.Join(f.allowed[:last], ", ") + " or " + f.allowed[last])
	}
	f.value = value
	return nil
}

// addOutput adds --output to a command.
func addOutput(cmd *cobra.Command, allowed ...string) *format {
	f := &format{value: allowed[0], allowed: allowed}
	cmd.Flags().Var(f, "output", "form of the output")
	err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag was added above
	}
	return f
}

// addListOutput adds --output to a command that lists.
func addListOutput(cmd *cobra.Command) *format {
	return addOutput(cmd, formatTable, formatJSON, formatCSV)
}

// printList prints a list in the form that is asked for: as the table, or its items as JSON or CSV.
func printList[T any](out io.Writer, f *format, items []T, t func() *table) error {
	switch f.value {
	case formatJSON:
		if items == nil {
			items = []T{}
		}
		return printJSON(out, items)
	case formatCSV:
		return printCSV(out, items)
	}
	return t().print(out)
}

// printJSON prints a value over several lines.
func printJSON(out io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	return writeJSON(out, text, err)
}

// printJSONLine prints a value on one line.
func printJSONLine(out io.Writer, value any) error {
	text, err := json.Marshal(value)
	return writeJSON(out, text, err)
}

// writeJSON prints encoded JSON so that a terminal takes it for text: what a payer sent may hold more than the control characters that
// JSON must escape.
func writeJSON(out io.Writer, text []byte, err error) error {
	if err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return printLine(out, b.String())
}

// table is what is for the eye. Every cell is made printable, whoever wrote what stands in it.
type table struct {
	columns []string // a heading that begins with > is that of numbers: they stand at the right
	rows    [][]string
}

func newTable(columns ...string) *table { return &table{columns: columns} }

// row adds a row. Cells are strings, numbers or booleans; an empty string is shown as a dash.
func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = orDash(printable(fmt.Sprint(cell)))
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(out io.Writer) error {
	var b strings.Builder
	t.write(&b, "")
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

// write writes the table with something before each line.
func (t *table) write(b *strings.Builder, indent string) {
	right := make([]bool, len(t.columns))
	heading := make([]string, len(t.columns))
	widths := make([]int, len(t.columns))
	for i, column := range t.columns {
		heading[i], right[i] = strings.TrimPrefix(column, ">"), strings.HasPrefix(column, ">")
		widths[i] = utf8.RuneCountInString(heading[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range append([][]string{heading}, t.rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if cells[i] = cell + pad; right[i] {
				cells[i] = pad + cell
			}
		}
		b.WriteString(strings.TrimRight(indent+strings.Join(cells, "  "), " ") + "\n")
	}
}

// printCSV prints items with their JSON members as columns; members of members are joined by _.
func printCSV[T any](out io.Writer, items []T) error {
	w := csv.NewWriter(out)
	var header []string
	flatten(reflect.TypeFor[T](), reflect.Value{}, "", func(name, _ string) { header = append(header, name) })
	err := w.Write(header)
	for _, item := range items {
		var row []string
		flatten(reflect.TypeFor[T](), reflect.ValueOf(item), "", func(_, cell string) { row = append(row, cell) })
		err = errors.Join(err, w.Write(row))
	}
	w.Flush()
	if err := errors.Join(err, w.Error()); err != nil {
		return fmt.Errorf("print as CSV: %w", err)
	}
	return nil
}

// flatten calls each with the members of a struct, in their order; an invalid value has empty cells.
func flatten(t reflect.Type, v reflect.Value, prefix string, each func(name, cell string)) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || !field.IsExported() {
			continue
		}
		kind, value := field.Type, reflect.Value{}
		if v.IsValid() {
			value = v.Field(i)
		}
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
			if value.IsValid() {
				value = value.Elem() // invalid for nil
			}
		}
		switch {
		case kind.Kind() == reflect.Struct && kind != reflect.TypeFor[time.Time]():
			inner := prefix
			if !field.Anonymous {
				inner += name + "_"
			}
			flatten(kind, value, inner, each)
		default:
			each(prefix+name, csvCell(value))
		}
	}
}

// csvCell is a value as a cell: text that a spreadsheet would take for a formula is marked as text.
func csvCell(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	switch value := v.Interface().(type) {
	case time.Time:
		return value.UTC().Format(time.RFC3339)
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	case []string:
		return textCell(strings.Join(value, " "))
	}
	switch v.Kind() { //nolint:exhaustive // what else there is, is told as it is
	case reflect.String:
		return textCell(v.String())
	case reflect.Map, reflect.Slice:
		if v.Len() == 0 {
			return ""
		}
		text, err := json.Marshal(v.Interface())
		if err != nil {
			return ""
		}
		return textCell(string(text))
	}
	return fmt.Sprint(v.Interface())
}

func textCell(text string) string {
	text = printable(text)
	if text != "" && strings.ContainsRune("=+-@", rune(text[0])) {
		return "'" + text
	}
	return text
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// printableLines makes text of several lines safe for a terminal.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		lines[i] = indent + strings.Map(func(r rune) rune {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, line[len(indent):])
	}
	return strings.Join(lines, "\n")
}
