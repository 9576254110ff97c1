package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// The notations of values that JSON Schema has no type for.
const (
	durationPattern  = `^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$|^0$`
	sizePattern      = `^[0-9]+ ?(B|KiB|MiB|GiB)?$`
	referencePattern = `^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|credential:[A-Za-z0-9_.@-]+|aws-secretsmanager:arn:.+|aws-kms:arn:.+)?$`
	webhookPattern   = `^(env|file|credential|aws-secretsmanager|https|http):.+$`
	directPattern    = `^(env|file|credential|aws-secretsmanager|postgres|postgresql):.+$`
	urlPattern       = `^(env|file|credential|aws-secretsmanager|postgres|postgresql|embedded):.+$`
)

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, fmt.Errorf("write the name %s: %w", m.name, err)
		}
		value, err := marshalPlain(m.value)
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// marshalPlain writes JSON in which < and > stand as they are.
func marshalPlain(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("write a member: %w", err)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// Schema returns the JSON Schema (draft 2020-12) of the configuration file, for editors. What it accepts may still be
// refused by Load, which also checks keys against each other.
func Schema() ([]byte, error) {
	properties := structProperties(reflect.ValueOf(*builtIn()), "")
	defaults := member{"defaults", structSchema(reflect.ValueOf(builtInPayer()), "defaults")}
	for i, p := range properties {
		if p.name == "payers" {
			properties = append(properties[:i:i], append(object{defaults}, properties[i:]...)...)
			break
		}
	}
	schema := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "Configuration of ingestd"},
		{"type", "object"},
		{"additionalProperties", false},
		{"properties", properties},
	}
	plain, err := marshalPlain(schema)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, plain, "", "  "); err != nil {
		return nil, fmt.Errorf("indent the schema: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// structSchema describes a mapping; value holds its defaults.
func structSchema(value reflect.Value, path string) object {
	schema := object{{"type", "object"}}
	if text := describeKey(path).text; text != "" {
		schema = append(schema, member{"description", text})
	}
	schema = append(schema, member{"additionalProperties", false}, member{"properties", structProperties(value, path)})
	if required := requiredKeys(value.Type(), path); len(required) > 0 {
		schema = append(schema, member{"required", required})
	}
	if short, ok := shortField(value.Type()); ok {
		field := value.Field(short.index)
		return object{{"oneOf", []any{valueSchema(field, join(path, short.key)), schema}}}
	}
	return schema
}

func structProperties(value reflect.Value, path string) object {
	var properties object
	for _, f := range orderedFields(value.Type()) {
		full := join(path, f.key)
		if full == "defaults.name" || full == "defaults.fhir_url" {
			continue
		}
		properties = append(properties, member{f.key, valueSchema(value.Field(f.index), full)})
	}
	return properties
}

// requiredKeys are those of a mapping that must be there. A required key whose mapping may stand in an included file, or in
// the defaults, is not required of a single file.
func requiredKeys(t reflect.Type, path string) []string {
	var required []string
	for _, f := range orderedFields(t) {
		if describeKey(join(path, f.key)).want != "" && path != "defaults" {
			required = append(required, f.key)
		}
	}
	return required
}

// valueSchema describes a value; v holds its default.
func valueSchema(v reflect.Value, path string) object {
	k, t := describeKey(path), v.Type()
	if t.Kind() == reflect.Struct {
		return structSchema(v, path)
	}
	schema := typeSchema(v, path)
	if k.text != "" {
		schema = append(schema, member{"description", k.text})
	}
	if k.enum != nil {
		enum := k.enum
		if k.standard != "" { // empty is none of them, and a value too
			enum = append(slices.Clone(enum), "")
		}
		schema = append(schema, member{"enum", enum})
	}
	if t.Kind() == reflect.Int || t.Kind() == reflect.Float64 {
		for _, bound := range []member{{"minimum", k.low}, {"maximum", k.high}} {
			if bound.value != "" {
				schema = append(schema, member{bound.name, json.Number(fmt.Sprint(bound.value))})
			}
		}
	}
	if standard, ok := standardValue(v); ok {
		schema = append(schema, member{"default", standard})
	}
	return schema
}

func typeSchema(v reflect.Value, path string) object {
	switch t := v.Type(); {
	case path == "database.url":
		return object{{"type", "string"}, {"pattern", urlPattern}}
	case path == "database.direct_url":
		return object{{"type", "string"}, {"pattern", directPattern}}
	case path == "notify[].url":
		return object{{"type", "string"}, {"pattern", webhookPattern}}
	case t == secretType:
		return object{{"type", "string"}, {"pattern", referencePattern}}
	case t == durationType:
		return object{{"type", []string{"string", "integer"}}, {"pattern", durationPattern}, {"minimum", 0}, {"maximum", 0}}
	case t == sizeType:
		return object{{"type", []string{"string", "integer"}}, {"pattern", sizePattern}, {"minimum", 0}}
	case t.Kind() == reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", object{{"type", []string{"string", "number"}}}}}
	case t.Kind() == reflect.Slice:
		element := t.Elem()
		if element.Kind() != reflect.Struct {
			return object{{"type", "array"}, {"items", append(stringSchema(path), member{"minLength", 1})}}
		}
		return object{{"type", "array"}, {"items", structSchema(zeroElement(path, element), path+"[]")}}
	case t.Kind() == reflect.Bool:
		return object{{"type", "boolean"}}
	case t.Kind() == reflect.Int:
		return object{{"type", "integer"}}
	case t.Kind() == reflect.Float64:
		return object{{"type", "number"}}
	default:
		return stringSchema(path)
	}
}

func stringSchema(path string) object {
	if describeKey(path).number {
		return object{{"type", []string{"string", "number"}}}
	}
	return object{{"type", "string"}}
}

// zeroElement is an element of a list in which nothing is written.
func zeroElement(path string, t reflect.Type) reflect.Value {
	switch path {
	case "keys":
		return reflect.ValueOf(builtInKey())
	case "payers":
		return reflect.ValueOf(builtInPayer())
	case "notify":
		return reflect.ValueOf(builtInNotify())
	default:
		return reflect.Zero(t)
	}
}

// standardValue is a default as JSON; false where there is none to tell.
func standardValue(v reflect.Value) (any, bool) {
	switch value := v.Interface().(type) {
	case time.Duration, Size:
		return valueText(v), true
	case bool, int, float64:
		return value, true
	case string:
		return value, value != ""
	default:
		return nil, false
	}
}
