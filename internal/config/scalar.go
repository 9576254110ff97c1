package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
)

// decodeScalar reads a single value. Its YAML type must be the field's, with one exception: a bare number where a string
// is meant (group_id: 42, min_version: 1.2) is taken as it is written.
func (d *decoder) decodeScalar(node *yaml.Node, target reflect.Value, path string) {
	t := target.Type()
	if isNull(node) {
		d.problem(path, "has no value: expected %s", expected(t))
		return
	}
	if node.Kind != yaml.ScalarNode || !setScalar(node, target) {
		if t == secretType {
			d.problem(path, "expected %s", expected(t)) // what stands there may be the secret
			return
		}
		d.problem(path, "expected %s, got %s", expected(t), describe(node))
		return
	}
	if t == secretType {
		target.SetString(string(Secret(target.String()).inDir(d.dir)))
	}
}

// setScalar reports whether the node has the type of target, and sets it then.
func setScalar(node *yaml.Node, target reflect.Value) bool {
	text, tag := node.Value, node.ShortTag()
	switch t := target.Type(); {
	case t == durationType:
		duration, err := time.ParseDuration(text)
		target.SetInt(int64(duration))
		return err == nil && (tag == "!!str" || tag == "!!int")
	case t == sizeType:
		size, err := parseSize(text)
		target.SetInt(int64(size))
		return err == nil && (tag == "!!str" || tag == "!!int")
	case t.Kind() == reflect.String:
		target.SetString(text)
		return tag == "!!str" || tag == "!!int" || tag == "!!float" || tag == "!!timestamp"
	case t.Kind() == reflect.Bool:
		target.SetBool(text == "true")
		return tag == "!!bool" && (text == "true" || text == "false")
	case t.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		target.SetInt(int64(n))
		return err == nil && tag == "!!int"
	case t.Kind() == reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		target.SetFloat(n)
		return err == nil && (tag == "!!int" || tag == "!!float")
	default:
		panic("config: a field of type " + t.String() + " cannot be read")
	}
}

// expected says what a value of a type looks like.
func expected(t reflect.Type) string {
	switch t {
	case durationType:
		return "a duration such as 30s, 10m or 24h"
	case sizeType:
		return "a size such as 512KiB, 64MiB or 1GiB"
	case secretType:
		return "a reference such as env:NAME or file:/path"
	}
	switch t.Kind() {
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

// kind says what sort of node stands where another was expected. It does not repeat a value: a database's URL that stands
// beside its key holds a password.
func kind(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// describe says what stands in a node, shortened; of what stands in quotes, that it is a string.
func describe(node *yaml.Node) string {
	switch {
	case node.Kind != yaml.ScalarNode:
		return kind(node)
	case slices.Contains([]string{"!!int", "!!float", "!!bool", "!!timestamp"}, node.ShortTag()) && len(node.Value) < 40:
		return node.Value
	case node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return "the string " + excerpt(node.Value)
	default:
		return excerpt(node.Value)
	}
}

// excerpt quotes the beginning of a text.
func excerpt(text string) string {
	const most = 40
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strconv.Quote(text)
}

// parseSize reads a number of bytes with an optional unit.
func parseSize(text string) (Size, error) {
	number, factor := text, int64(1)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, unit.suffix); ok {
			number, factor = strings.TrimSuffix(rest, " "), int64(unit.bytes)
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > (1<<62)/factor {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return Size(int64(n) * factor), nil
}

// inDir makes a relative file name start from the directory of the file that it is written in.
func inDir(dir, name string) string {
	if dir == "" || name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}
