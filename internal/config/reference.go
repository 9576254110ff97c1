package config

import (
	"fmt"
	"reflect"
	"strings"
)

const tableHead = "| key | type | default | meaning |\n|---|---|---|---|\n"

// Reference returns the reference of all keys as Markdown: the part of docs/configuration.md that follows from the types.
func Reference() string {
	var out strings.Builder
	out.WriteString("### At the top\n\n" + tableHead)
	fmt.Fprintf(&out, "| `include` | list of file names | `[]` | %s |\n", describeKey("include").text)
	fmt.Fprintf(&out, "| `defaults` | mapping | - | %s |\n\n", describeKey("defaults").text)
	config := reflect.ValueOf(*builtIn())
	for _, f := range orderedFields(config.Type()) {
		switch f.key {
		case "include":
		case "keys":
			writeSection(&out, "keys[]", reflect.ValueOf(builtInKey()))
		case "payers":
			writeSection(&out, "payers[]", reflect.ValueOf(builtInPayer()))
		case "notify":
			writeSection(&out, "notify[]", reflect.ValueOf(builtInNotify()))
		default:
			writeSection(&out, f.key, config.Field(f.index))
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// writeSection writes the keys of a mapping, whose defaults value holds, and then the mappings in it.
func writeSection(out *strings.Builder, path string, value reflect.Value) {
	fmt.Fprintf(out, "### `%s`\n\n%s\n\n%s", path, describeKey(strings.TrimSuffix(path, "[]")).text, tableHead)
	type section struct {
		path  string
		value reflect.Value
	}
	var inner []section
	for _, f := range orderedFields(value.Type()) {
		v, full := value.Field(f.index), join(path, f.key)
		switch {
		case v.Kind() == reflect.Struct:
			inner = append(inner, section{full, v})
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			inner = append(inner, section{full + "[]", reflect.Zero(v.Type().Elem())})
		default:
			k := describeKey(full)
			fmt.Fprintf(out, "| `%s` | %s | %s | %s%s |\n", full, typeText(v, full), defaultText(v, k), k.text, boundsText(k))
		}
	}
	out.WriteString("\n")
	for _, s := range inner {
		writeSection(out, s.path, s.value)
	}
}

func typeText(v reflect.Value, path string) string {
	switch t, k := v.Type(), describeKey(path); {
	case path == "database.url", path == "database.direct_url", path == "notify[].url":
		return "reference or URL"
	case k.enum != nil:
		return "`" + strings.Join(k.enum, "` `") + "`"
	case t == secretType:
		return "reference"
	case t == durationType:
		return "duration"
	case t == sizeType:
		return "size"
	}
	switch v.Kind() {
	case reflect.Map:
		return "mapping of strings"
	case reflect.Slice:
		return "list of strings"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	case reflect.Float64:
		return "number"
	default:
		return "string"
	}
}

func defaultText(v reflect.Value, k key) string {
	switch {
	case k.want != "":
		return "required"
	case k.standard != "":
		return k.standard
	case v.Kind() == reflect.Slice:
		return "`[]`"
	case v.Kind() == reflect.Map:
		return "`{}`"
	case v.Kind() == reflect.String && v.Len() == 0:
		return "-"
	case v.Kind() == reflect.String:
		return "`" + v.String() + "`"
	default:
		return "`" + valueText(v) + "`"
	}
}

// boundsText tells the bounds of a value, where they are not plain.
func boundsText(k key) string {
	switch {
	case k.high != "":
		return fmt.Sprintf(" From %s to %s.", k.low, k.high)
	case k.low == "1ms":
		return " More than 0."
	default:
		return ""
	}
}
