package config_test

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
)

// validate checks a value against the part of JSON Schema that our schema uses, and returns what is wrong as "path: why".
func validate(schema map[string]any, value any, path string) []string {
	var problems []string
	fail := func(format string, args ...any) {
		problems = append(problems, path+": "+fmt.Sprintf(format, args...))
	}
	for keyword, argument := range schema {
		switch keyword {
		case "$schema", "title", "description", "default":
		case "type":
			if !hasType(value, argument) {
				fail("is %T, want %v", value, argument)
			}
		case "enum":
			if !slices.ContainsFunc(argument.([]any), func(v any) bool { return reflect.DeepEqual(v, value) }) {
				fail("%v is none of %v", value, argument)
			}
		case "pattern":
			if text, ok := value.(string); ok && !regexp.MustCompile(argument.(string)).MatchString(text) {
				fail("%q does not match %s", text, argument)
			}
		case "minLength":
			if text, ok := value.(string); ok && len(text) < int(argument.(float64)) {
				fail("is too short")
			}
		case "minimum":
			if n, ok := value.(float64); ok && n < argument.(float64) {
				fail("%v is below %v", n, argument)
			}
		case "maximum":
			if n, ok := value.(float64); ok && n > argument.(float64) {
				fail("%v is above %v", n, argument)
			}
		case "items":
			list, _ := value.([]any)
			for i, element := range list {
				problems = append(problems, validate(argument.(map[string]any), element, fmt.Sprintf("%s[%d]", path, i))...)
			}
		case "oneOf":
			matches := 0
			for _, alternative := range argument.([]any) {
				if len(validate(alternative.(map[string]any), value, path)) == 0 {
					matches++
				}
			}
			if matches != 1 {
				fail("matches %d of the alternatives", matches)
			}
		case "properties", "additionalProperties":
		case "required":
			mapping, ok := value.(map[string]any)
			for _, name := range argument.([]any) {
				if _, there := mapping[name.(string)]; ok && !there {
					problems = append(problems, member(path, name.(string))+": is missing")
				}
			}
		default:
			panic("the test does not know the keyword " + keyword)
		}
	}
	return append(problems, validateMembers(schema, value, path)...)
}

func validateMembers(schema map[string]any, value any, path string) []string {
	var problems []string
	mapping, _ := value.(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	for name, v := range mapping {
		property, known := properties[name].(map[string]any)
		if further, ok := schema["additionalProperties"].(map[string]any); ok && !known {
			property, known = further, true
		}
		switch {
		case known:
			problems = append(problems, validate(property, v, member(path, name))...)
		case schema["additionalProperties"] == false:
			problems = append(problems, member(path, name)+": is not known")
		}
	}
	return problems
}

func member(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func hasType(value, types any) bool {
	if list, ok := types.([]any); ok {
		return slices.ContainsFunc(list, func(t any) bool { return hasType(value, t) })
	}
	switch v := value.(type) {
	case map[string]any:
		return types == "object"
	case []any:
		return types == "array"
	case bool:
		return types == "boolean"
	case float64:
		return types == "number" || types == "integer" && v == math.Trunc(v)
	case string:
		return types == "string"
	default:
		return false
	}
}
