package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxDepth bounds the nesting of a file, and with it what aliases can expand to.
const maxDepth = 20

// maxNodes bounds how many nodes are read, so that aliases of aliases do not fill the memory.
const maxNodes = 100_000

// decoder fills a value from YAML nodes, strictly: every key must be known, every type fit. It collects all problems
// rather than stopping at the first.
type decoder struct {
	file     string
	problems []Problem
	nodes    int
	// lines are where keys stand, by their path, for problems that are found later.
	lines map[string]int
}

func (d *decoder) problem(node *yaml.Node, path, format string, args ...any) {
	line := 0
	if node != nil {
		line = node.Line
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
)

// decode fills target from node. Keys that the node does not have keep the value that target has: so defaults are laid
// under what is written.
func (d *decoder) decode(node *yaml.Node, target reflect.Value, path string, depth int) {
	d.nodes++
	if depth > maxDepth || d.nodes > maxNodes {
		if d.nodes <= maxNodes+1 {
			d.problem(node, path, "nested too deeply, or too many aliases")
		}
		d.nodes = maxNodes + 1
		return
	}
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if path != "" {
		d.lines[path] = node.Line
	}
	switch target.Kind() {
	case reflect.Struct:
		d.decodeStruct(node, target, path, depth)
	case reflect.Slice:
		d.decodeSlice(node, target, path, depth)
	case reflect.Map:
		d.decodeMap(node, target, path)
	default:
		d.decodeScalar(node, target, path)
	}
}

func (d *decoder) decodeStruct(node *yaml.Node, target reflect.Value, path string, depth int) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.problem(node, path, "expected a mapping of keys, got %s", describe(node))
		return
	}
	fields := fieldsOf(target.Type())
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := key.Value
		full := join(path, name)
		if first, twice := seen[name]; twice {
			d.problem(key, full, "stands here for the second time, first on line %d", first)
			continue
		}
		seen[name] = key.Line
		index, ok := fields[name]
		if !ok {
			d.problem(key, full, "unknown key%s", suggest(name, fields))
			continue
		}
		d.decode(value, target.Field(index), full, depth+1)
	}
}

func (d *decoder) decodeSlice(node *yaml.Node, target reflect.Value, path string, depth int) {
	if isNull(node) {
		target.SetZero()
		return
	}
	if node.Kind != yaml.SequenceNode {
		d.problem(node, path, "expected a list, got %s", describe(node))
		return
	}
	list := reflect.MakeSlice(target.Type(), len(node.Content), len(node.Content))
	for i, element := range node.Content {
		d.decode(element, list.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1)
	}
	target.Set(list)
}

// decodeMap reads a mapping of names to strings; its keys are free.
func (d *decoder) decodeMap(node *yaml.Node, target reflect.Value, path string) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.problem(node, path, "expected a mapping of names to strings, got %s", describe(node))
		return
	}
	values := make(map[string]string, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if value.Kind != yaml.ScalarNode {
			d.problem(value, join(path, key.Value), "expected a string, got %s", describe(value))
			continue
		}
		values[key.Value] = value.Value
	}
	target.Set(reflect.ValueOf(values))
}

func (d *decoder) decodeScalar(node *yaml.Node, target reflect.Value, path string) {
	if isNull(node) {
		d.problem(node, path, "has no value: expected %s", expected(target.Type()))
		return
	}
	if node.Kind != yaml.ScalarNode {
		d.problem(node, path, "expected %s, got %s", expected(target.Type()), describe(node))
		return
	}
	wrong := func() {
		if target.Type() == secretType {
			d.problem(node, path, "expected %s", expected(target.Type()))
			return
		}
		d.problem(node, path, "expected %s, got %s", expected(target.Type()), describe(node))
	}
	text, tag := node.Value, node.ShortTag()
	switch {
	case target.Type() == durationType:
		duration, err := time.ParseDuration(text)
		if err != nil {
			wrong()
			return
		}
		target.SetInt(int64(duration))
	case target.Type() == sizeType:
		size, err := parseSize(text)
		if err != nil {
			wrong()
			return
		}
		target.SetInt(int64(size))
	case target.Kind() == reflect.String:
		// A bare number or date is a string to its author: group_id: 42. A bare true or null is a slip.
		if tag == "!!bool" || tag == "!!null" {
			wrong()
			return
		}
		target.SetString(text)
	case target.Kind() == reflect.Bool:
		if tag != "!!bool" || text != "true" && text != "false" {
			wrong()
			return
		}
		target.SetBool(text == "true")
	case target.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if tag != "!!int" || err != nil {
			wrong()
			return
		}
		target.SetInt(int64(n))
	case target.Kind() == reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if tag != "!!int" && tag != "!!float" || err != nil {
			wrong()
			return
		}
		target.SetFloat(n)
	default:
		panic("config: a field of type " + target.Type().String() + " cannot be read")
	}
}

// expected says what a value of a type looks like.
func expected(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration such as 30s, 10m or 24h"
	case t == sizeType:
		return "a size such as 512KiB, 64MiB or 1GiB"
	case t == secretType:
		return "a reference such as env:NAME or file:/path"
	}
	switch t.Kind() { //nolint:exhaustive // the kinds that the configuration has
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	default:
		return "a string"
	}
}

// describe says what stands in a node, shortened.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		text := node.Value
		if len(text) > 40 {
			text = text[:40] + "…"
		}
		return strconv.Quote(text)
	}
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldsOf maps the keys of a struct to its fields.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" && name != "-" {
			fields[name] = i
		}
	}
	return fields
}

// suggest names the known key that is nearest to an unknown one, or lists them all where none is near.
func suggest(name string, fields map[string]int) string {
	known := make([]string, 0, len(fields))
	for field := range fields {
		known = append(known, field)
	}
	slices.Sort(known)
	best, distance := "", max(2, len(name)/3)+1
	for _, field := range known {
		if n := editDistance(name, field); n < distance {
			best, distance = field, n
		}
	}
	if best != "" {
		return fmt.Sprintf(": did you mean %s?", best)
	}
	return ": expected one of " + strings.Join(known, ", ")
}

// editDistance is the Levenshtein distance of two short strings.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// parseSize reads a number of bytes with an optional unit.
func parseSize(text string) (Size, error) {
	factor := int64(1)
	number := text
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(text, unit.suffix); ok {
			number, factor = strings.TrimSpace(rest), unit.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return Size(n * factor), nil
}
