package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Effective is a configuration as it can be shown and compared: with the defaults laid under each payer, and without
// secrets. Its JSON form is a public interface.
type Effective struct {
	// Digest is of everything that can be shown, and of what the digests of the payers tell.
	Digest string `json:"digest"`
	// Payers are the digests of the payers, by their names: see Payer.Digest.
	Payers map[string]string `json:"payers"`
	// Config is what Dump writes, as a tree.
	Config map[string]any `json:"config"`
}

// Effective returns the configuration as it can be shown.
func (c *Config) Effective() Effective {
	shown := *c
	shown.Include = nil // what it named is in here
	tree, _ := plain(dumpStruct(reflect.ValueOf(shown), "", nil)).(map[string]any)
	e := Effective{Payers: make(map[string]string, len(c.Payers)), Config: tree}
	rest := maps.Clone(tree)
	delete(rest, "payers")
	all := flatten(rest)
	for _, p := range c.Payers {
		e.Payers[p.Name] = p.Digest()
		all["payer "+p.Name] = e.Payers[p.Name]
	}
	e.Digest = digest(all)
	return e
}

// local are the keys of a payer that say where something lies on this machine. Instances may well differ in them.
var local = []string{"tls.ca_file", "tls.client_certificate", "tls.client_key", "auth.client_secret", "export.log"}

// Digest is that of the payer's effective settings: all that decides what is exported, how, and when. It leaves out where
// files and secrets lie on this machine, and settings that are the built-in ones, so that a key that a later version adds
// changes no digest.
func (p Payer) Digest() string {
	settings, standard := flatten(p.tree()), flatten(builtInPayer().tree())
	maps.DeleteFunc(settings, func(key, value string) bool {
		standing, known := standard[key]
		return slices.Contains(local, key) || known && standing == value
	})
	for name, value := range p.Export.Headers { // which the tree does not hold
		settings["export.headers."+name] = value
	}
	return digest(settings)
}

// digestBytes is how much of a digest is kept: enough to tell configurations apart, and to be read out by people.
const digestBytes = 8

func digest(settings map[string]string) string {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(hash, "%q=%q\n", key, settings[key])
	}
	return hex.EncodeToString(hash.Sum(nil)[:digestBytes])
}

func (p Payer) tree() map[string]any {
	tree, _ := plain(dumpStruct(reflect.ValueOf(p), "", nil)).(map[string]any)
	return tree
}

// plain turns what Dump writes into maps, lists and scalars as encoding/json has them under UseNumber.
func plain(node *yaml.Node) any {
	switch node.Kind { //nolint:exhaustive // Dump writes no others, and scalars are below
	case yaml.MappingNode:
		mapping := make(map[string]any, len(node.Content)/2)
		for i := 0; i < len(node.Content); i += 2 {
			mapping[node.Content[i].Value] = plain(node.Content[i+1])
		}
		return mapping
	case yaml.SequenceNode:
		list := make([]any, 0, len(node.Content))
		for _, element := range node.Content {
			list = append(list, plain(element))
		}
		return list
	}
	switch node.Tag {
	case "!!bool":
		return node.Value == "true"
	case "!!int", "!!float":
		return json.Number(node.Value)
	}
	return node.Value
}

// flatten writes a tree as values by path.
func flatten(tree map[string]any) map[string]string {
	flat := make(map[string]string)
	flattenInto(flat, "", tree)
	return flat
}

func flattenInto(flat map[string]string, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			flattenInto(flat, join(path, key), v)
		}
	case []any:
		if len(value) > 0 { // an empty list says what no list says
			flat[path] = listText(value)
		}
	default:
		flat[path] = fmt.Sprint(value)
	}
}

func listText(list []any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(list); err != nil {
		return fmt.Sprint(list) // never: it came from YAML or JSON
	}
	return strings.TrimSpace(out.String())
}
