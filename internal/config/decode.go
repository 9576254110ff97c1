package config

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v4"
)

// maxExpanded bounds how many nodes are read by way of aliases, so that a small file cannot stand for a large one.
const maxExpanded = 100_000

// maxMerges bounds how deeply merge keys (<<) may be nested, and with it a mapping that merges itself.
const maxMerges = 10

// source is what is remembered of a file while it is read: where its keys stand, and which of them could not be read.
type source struct {
	file  string
	lines map[string]int
	bad   map[string]bool
}

func newSource(file string) *source {
	return &source{file: file, lines: make(map[string]int), bad: make(map[string]bool)}
}

// decoder fills a value from YAML nodes, strictly: every key must be known, every type fit. It collects all problems
// rather than stopping at the first.
type decoder struct {
	*source
	// dir is where relative file names start from; empty leaves them as they are.
	dir      string
	problems []Problem
	// aliases is how many aliases lead to the node that is being read; expanded counts the nodes read so.
	aliases, expanded int
	overflown         bool
}

// problem reports what is wrong with the value of a key whose line is known.
func (d *decoder) problem(path, format string, args ...any) {
	d.bad[path] = true
	d.problemOn(d.lines[path], path, format, args...)
}

// problemOn reports what is wrong on a line, where that is not the value of a key.
func (d *decoder) problemOn(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

// decode fills target from node. Keys that the node does not have keep the value that target has: so defaults are laid
// under what is written. The types of the configuration do not nest in themselves, which bounds the recursion.
func (d *decoder) decode(node *yaml.Node, target reflect.Value, path string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
		d.aliases++
		defer func() { d.aliases-- }()
	}
	if d.aliases > 0 && !d.expand(1, d.lines[path], path) {
		return
	}
	switch target.Kind() {
	case reflect.Struct:
		d.decodeStruct(node, target, path)
	case reflect.Slice:
		d.decodeSlice(node, target, path)
	case reflect.Map:
		d.decodeMap(node, target, path)
	default:
		d.decodeScalar(node, target, path)
	}
}

// expand counts nodes that are read by way of an alias or a merge key. It reports false, and a problem the first time,
// when they are too many.
func (d *decoder) expand(nodes, line int, path string) bool {
	if d.expanded += nodes; d.expanded <= maxExpanded {
		return true
	}
	if !d.overflown {
		d.overflown = true
		d.bad[""] = true
		d.problemOn(line, path, "aliases and merge keys are nested too deeply here, or stand for too much")
	}
	return false
}

func (d *decoder) decodeStruct(node *yaml.Node, target reflect.Value, path string) {
	if isNull(node) {
		return // a heading whose keys are all commented out
	}
	fields := fieldsOf(target.Type())
	if short, ok := shortField(target.Type()); ok && node.Kind == yaml.ScalarNode {
		full := join(path, short.key)
		d.lines[full] = d.lines[path]
		d.decode(node, target.Field(short.index), full)
		return
	}
	if node.Kind != yaml.MappingNode {
		d.problem(path, "expected a mapping of keys, got %s", kind(node))
		return
	}
	for _, pair := range d.pairs(node, path) {
		full := join(path, pair.name)
		field, ok := fields[pair.name]
		if !ok {
			d.problemOn(pair.line, full, "unknown key: %s", suggest(pair.name, keyNames(target.Type())))
			continue
		}
		d.lines[full] = pair.line
		d.decode(pair.value, target.Field(field.index), full)
		if field.file {
			value := target.Field(field.index)
			value.SetString(inDir(d.dir, value.String()))
		}
	}
}

// pair is a key of a mapping with its value.
type pair struct {
	name  string
	line  int
	value *yaml.Node
}

// pairs lists what a mapping holds, with what it merges (<<) behind its own keys, which win. A key that stands twice is
// reported.
func (d *decoder) pairs(mapping *yaml.Node, path string) []pair {
	var list []pair
	seen := make(map[string]int, len(mapping.Content)/2)
	d.collect(mapping, path, 0, func(p pair, merged bool) {
		first, twice := seen[p.name]
		switch {
		case !twice:
			seen[p.name] = p.line
			list = append(list, p)
		case !merged:
			d.problemOn(p.line, join(path, p.name), "stands here for the second time, first on line %d", first)
		}
	})
	return list
}

func (d *decoder) collect(mapping *yaml.Node, path string, depth int, add func(p pair, merged bool)) {
	var merges []*yaml.Node
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		line := key.Line
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			d.problemOn(line, path, "expected a name as key, got %s", kind(key))
		case key.ShortTag() == "!!merge":
			merges = append(merges, value)
		default:
			add(pair{key.Value, line, value}, depth > 0)
		}
	}
	for _, merge := range merges {
		d.merge(merge, path, depth+1, add)
	}
}

// merge adds the keys of a mapping that is merged into another, or of each of a list of them; the earlier ones win.
func (d *decoder) merge(node *yaml.Node, path string, depth int, add func(p pair, merged bool)) {
	line := node.Line
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if depth > maxMerges {
		d.expanded = maxExpanded
	}
	if !d.expand(1+len(node.Content), line, path) {
		return
	}
	switch node.Kind {
	case yaml.MappingNode:
		d.collect(node, path, depth, add)
	case yaml.SequenceNode:
		for _, element := range node.Content {
			d.merge(element, path, depth+1, add)
		}
	default:
		d.problemOn(line, join(path, "<<"), "expected a mapping to merge, or a list of them, got %s", kind(node))
	}
}

// decodeSlice reads a list. It replaces the one that stands there: a payer's list is not added to the defaults'.
func (d *decoder) decodeSlice(node *yaml.Node, target reflect.Value, path string) {
	if isNull(node) {
		target.SetZero()
		return
	}
	if node.Kind != yaml.SequenceNode {
		d.problem(path, "expected a list, got %s", kind(node))
		return
	}
	list := reflect.MakeSlice(target.Type(), len(node.Content), len(node.Content))
	for i, element := range node.Content {
		full := fmt.Sprintf("%s[%d]", path, i)
		d.lines[full] = element.Line
		d.decode(element, list.Index(i), full)
	}
	target.Set(list)
}

// decodeMap reads a mapping of free names to strings, over those that stand there.
func (d *decoder) decodeMap(node *yaml.Node, target reflect.Value, path string) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.problem(path, "expected a mapping of names to strings, got %s", kind(node))
		return
	}
	values := reflect.MakeMap(target.Type())
	for _, name := range target.MapKeys() {
		values.SetMapIndex(name, target.MapIndex(name))
	}
	for _, pair := range d.pairs(node, path) {
		full := join(path, pair.name)
		d.lines[full] = pair.line
		value := reflect.New(target.Type().Elem()).Elem()
		d.decode(pair.value, value, full)
		values.SetMapIndex(reflect.ValueOf(pair.name), value)
	}
	target.Set(values)
}

// field is a key of a struct.
type field struct {
	key   string
	index int
	file  bool // the value is the name of a file
	short bool // a scalar in the place of the struct is this field's value
}

// fieldsOf maps the keys of a struct to its fields.
func fieldsOf(t reflect.Type) map[string]field {
	fields := make(map[string]field, t.NumField())
	for _, f := range orderedFields(t) {
		fields[f.key] = f
	}
	return fields
}

// orderedFields lists the keys of a struct in the order of the type, which is the order of the documentation.
func orderedFields(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		if key := tag.Get("yaml"); key != "" && key != "-" {
			kind := tag.Get("config")
			fields = append(fields, field{key: key, index: i, file: kind == "file", short: kind == "short"})
		}
	}
	return fields
}

func keyNames(t reflect.Type) []string {
	var names []string
	for _, f := range orderedFields(t) {
		names = append(names, f.key)
	}
	return names
}

func shortField(t reflect.Type) (field, bool) {
	for _, f := range orderedFields(t) {
		if f.short {
			return f, true
		}
	}
	return field{}, false
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
