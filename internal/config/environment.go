package config

import (
	"maps"
	"reflect"
	"slices"
)

// Environment names the environment variables that the configuration takes secrets from, sorted.
func (c *Config) Environment() []string {
	names := make(map[string]bool)
	noteEnvironment(reflect.ValueOf(*c), names)
	return slices.Sorted(maps.Keys(names))
}

// noteEnvironment notes the variables that references in a value name: secrets, and the headers that may be references.
func noteEnvironment(v reflect.Value, names map[string]bool) {
	switch v.Kind() { //nolint:exhaustive // there are no references in what else there is
	case reflect.String:
		if scheme, name, ok := Secret(v.String()).reference(); ok && scheme == schemeEnv {
			names[name] = true
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			noteEnvironment(field, names)
		}
	case reflect.Slice:
		for i := range v.Len() {
			noteEnvironment(v.Index(i), names)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			noteEnvironment(v.MapIndex(key), names)
		}
	}
}
