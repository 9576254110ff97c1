package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"
)

// Dump writes the effective configuration as YAML: with the included files merged, the defaults laid under each payer, and
// without secrets. References stand as they were written, a database URL without its password and parameters, and the
// values of request headers not at all. What a profile says is marked by a comment. A dump in which nothing had to be left out
// is read by Parse as the same configuration.
func (c *Config) Dump() ([]byte, error) {
	effective := *c
	effective.Include = nil // what it named is in here
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(dumpStruct(reflect.ValueOf(effective), "", nil)); err != nil {
		return nil, fmt.Errorf("write the configuration as YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write the configuration as YAML: %w", err)
	}
	return out.Bytes(), nil
}

// dumpStruct writes a struct as a mapping, in the order of its fields. What is empty is left out: it says nothing, unless
// it switches a default off. The keys of notes are those that a profile knows, with what is said about their values.
func dumpStruct(value reflect.Value, path string, notes map[string]string) *yaml.Node {
	if payer, ok := reflect.TypeAssert[Payer](value); ok {
		path, notes = "", payer.profileNotes()
	}
	mapping := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range orderedFields(value.Type()) {
		v, full := value.Field(f.index), join(path, f.key)
		note, always := notes[full]
		if v.IsZero() && !saysSomething(v) && !always && f.key != "listen" && full != "payers" {
			continue
		}
		node := dumpValue(v, full, notes)
		node.LineComment = note
		mapping.Content = append(mapping.Content, scalar("!!str", f.key), node)
	}
	return mapping
}

// profileNotes are the keys that the payer's profile knows: they are always written, because what is left out would be the
// profile's.
func (p Payer) profileNotes() map[string]string {
	profile, ok := FindProfile(p.Profile)
	if !ok {
		return nil
	}
	notes := make(map[string]string, len(profile.Settings))
	for _, s := range profile.Settings {
		notes[s.Key] = ""
	}
	for _, key := range p.FromProfile {
		notes[key] = "profile " + p.Profile
	}
	return notes
}

// saysSomething reports whether a zero is a value: false and 0 are.
func saysSomething(v reflect.Value) bool {
	return v.Kind() == reflect.Bool || v.CanInt() || v.CanFloat()
}

func dumpValue(v reflect.Value, path string, notes map[string]string) *yaml.Node {
	switch value := v.Interface().(type) {
	case Secret:
		return scalar("!!str", value.String())
	case time.Duration, Size:
		return scalar("!!str", valueText(v))
	case map[string]string:
		headers := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			headers.Content = append(headers.Content, scalar("!!str", name), scalar("!!str", redacted))
		}
		return headers
	}
	switch v.Kind() {
	case reflect.Struct:
		return dumpStruct(v, path, notes)
	case reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Type().Elem().Kind() == reflect.String {
			list.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			list.Content = append(list.Content, dumpValue(v.Index(i), path, nil))
		}
		return list
	case reflect.Bool:
		return scalar("!!bool", strconv.FormatBool(v.Bool()))
	case reflect.String:
		return scalar("!!str", v.String())
	case reflect.Int:
		return scalar("!!int", strconv.FormatInt(v.Int(), 10))
	default:
		return scalar("!!float", strconv.FormatFloat(v.Float(), 'g', -1, 64))
	}
}

// scalar is a value of a YAML type; the encoder quotes a string that would be read as something else.
func scalar(tag, text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
}
