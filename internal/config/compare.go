package config

import (
	"fmt"
	"maps"
	"slices"
)

// The ways in which two configurations differ in a key.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Difference is a key in which two configurations differ, or a whole payer that only one of them has. Its JSON form is a
// public interface.
type Difference struct {
	// Payer is the payer's name; empty for the rest of the configuration.
	Payer string `json:"payer,omitempty"`
	// Key is the path of the key, without the payer; empty for a whole payer.
	Key string `json:"key,omitempty"`
	// Change is Added, Removed or Changed.
	Change string `json:"change"`
	// From and To are the values, without secrets; empty where the key is not there.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// String is the difference on a line, without the payer.
func (d Difference) String() string {
	switch d.Change {
	case Added:
		return fmt.Sprintf("%s: added: %s", d.Key, d.To)
	case Removed:
		return fmt.Sprintf("%s: removed, was %s", d.Key, d.From)
	}
	return fmt.Sprintf("%s: %s → %s", d.Key, d.From, d.To)
}

// Compare lists the differences between two configurations: first those of the rest, then payer by payer, by name. A
// payer's digest also tells what is not shown, which are the values of request headers.
func Compare(from, to Effective) []Difference {
	restFrom, payersFrom := split(from.Config)
	restTo, payersTo := split(to.Config)
	all := compareKeys("", restFrom, restTo)
	names := maps.Clone(payersFrom)
	maps.Copy(names, payersTo)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, before := payersFrom[name]
		is, after := payersTo[name]
		switch {
		case !before:
			all = append(all, Difference{Payer: name, Change: Added, To: is["fhir_url"]})
		case !after:
			all = append(all, Difference{Payer: name, Change: Removed, From: was["fhir_url"]})
		default:
			keys := compareKeys(name, was, is)
			if len(keys) == 0 && from.Payers[name] != to.Payers[name] {
				keys = []Difference{{Payer: name, Key: "export.headers", Change: Changed, From: redacted, To: redacted}}
			}
			all = append(all, keys...)
		}
	}
	return all
}

func compareKeys(payer string, from, to map[string]string) []Difference {
	keys := maps.Clone(from)
	maps.Copy(keys, to)
	var all []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		was, before := from[key]
		is, after := to[key]
		d := Difference{Payer: payer, Key: key, Change: Changed, From: was, To: is}
		switch {
		case before && after && was == is:
			continue
		case !before:
			d.Change = Added
		case !after:
			d.Change = Removed
		}
		all = append(all, d)
	}
	return all
}

// split takes a tree apart: the payers by their names, and the rest, in which signing keys stand by their ids.
func split(tree map[string]any) (rest map[string]string, payers map[string]map[string]string) {
	rest, payers = make(map[string]string), make(map[string]map[string]string)
	for key, value := range tree {
		list, isList := value.([]any)
		switch {
		case key == "payers":
			for _, element := range list {
				if payer, ok := element.(map[string]any); ok {
					name, _ := payer["name"].(string)
					payers[name] = flatten(payer)
				}
			}
		case key == "keys" && isList:
			for _, element := range list {
				if k, ok := element.(map[string]any); ok {
					flattenInto(rest, fmt.Sprintf("keys[%v]", k["id"]), k)
				}
			}
		default:
			flattenInto(rest, key, value)
		}
	}
	return rest, payers
}
