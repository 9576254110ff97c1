package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Profile is what is known of one kind of server, as settings of a payer that fit it: payers[].profile names it. Its
// settings lie right beneath the mapping that names it, so that each of them is overridden by the same key there.
type Profile struct {
	Name string `json:"name"`
	// Aliases are further names of the same.
	Aliases []string `json:"aliases,omitempty"`
	// Title says which servers are meant.
	Title    string    `json:"title"`
	Settings []Setting `json:"settings"`
	// Notes say what else to know and to set, which no profile can.
	Notes []string `json:"notes,omitempty"`
}

// Setting is the value that a profile gives to a key.
type Setting struct {
	// Key is the key's path within the payer, for example limits.downloads.
	Key string `json:"key"`
	// Value is written as in the file.
	Value string `json:"value"`
	// Reason says why, in a sentence of Markdown.
	Reason string `json:"reason"`

	// needs is what another key has to be for the setting to make sense: without it, the setting is left out.
	needs *need
}

// need is the value that a key of strings has to have.
type need struct{ key, value string }

// Profiles lists all profiles, in the order of their names.
func Profiles() []Profile { return slices.Clone(profiles) }

// FindProfile finds a profile by its name or an alias.
func FindProfile(name string) (Profile, bool) {
	for _, p := range profiles {
		if p.Name == name || slices.Contains(p.Aliases, name) {
			return p, true
		}
	}
	return Profile{}, false
}

// ProfileNames lists what payers[].profile may be: names and aliases, sorted.
func ProfileNames() []string {
	var names []string
	for _, p := range profiles {
		names = append(append(names, p.Name), p.Aliases...)
	}
	slices.Sort(names)
	return names
}

// SuggestProfile says which name may be meant by one that is none: "did you mean bcda?", or all names.
func SuggestProfile(name string) string { return suggest(name, ProfileNames()) }

// newPayer is a payer in which nothing is written yet: the built-in settings, the file's defaults over them, and the
// profile's over those where the payer names one; where the defaults name it, it lies beneath them.
func (p *parser) newPayer(d *decoder, node *yaml.Node, path string) Payer {
	name, own := d.profileOf(node, path)
	if !own {
		name = p.defaultProfile
	}
	profile, ok := FindProfile(name)
	if !ok || d.overflown {
		return p.lay(nil, own)
	}
	// Which settings make sense depends on what is written above them.
	probe := p.lay(profile.Settings, own)
	quiet := &decoder{source: newSource(d.file), dir: d.dir}
	quiet.decode(node, reflect.ValueOf(&probe).Elem(), path)
	var settings []Setting
	for _, s := range profile.Settings {
		if s.needs == nil || fieldAt(reflect.ValueOf(&probe).Elem(), s.needs.key).String() == s.needs.value {
			settings = append(settings, s)
		}
	}
	payer := p.lay(settings, own)
	for _, s := range settings {
		_, written := quiet.lines[join(path, s.Key)]
		_, inDefaults := p.main.lines["defaults."+s.Key]
		if !written && (own || !inDefaults) {
			payer.FromProfile = append(payer.FromProfile, s.Key)
		}
	}
	return payer
}

// lay lays the settings of a profile over or, where they come from there, under the file's defaults.
func (p *parser) lay(settings []Setting, over bool) Payer {
	payer := builtInPayer()
	if !over {
		apply(settings, &payer)
	}
	if p.defaults != nil {
		quiet := &decoder{source: newSource(p.main.file), dir: p.dir} // its problems have been reported
		quiet.decode(p.defaults, reflect.ValueOf(&payer).Elem(), "defaults")
	}
	if over {
		apply(settings, &payer)
	}
	return payer
}

// profileOf finds the profile that a mapping names, without reading the rest of it; false where it names none.
func (d *decoder) profileOf(node *yaml.Node, path string) (string, bool) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return "", false
	}
	quiet := &decoder{source: newSource(d.file)}
	for _, pair := range quiet.pairs(node, path) {
		if pair.name != "profile" {
			continue
		}
		value := pair.value
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		return value.Value, true
	}
	return "", false
}

// apply sets what the settings say.
func apply(settings []Setting, payer *Payer) {
	for _, s := range settings {
		var document yaml.Node
		if err := yaml.Unmarshal([]byte(s.Value), &document); err != nil {
			panic(fmt.Sprintf("config: the value of %s in a profile is not YAML: %s", s.Key, s.Value)) // a test reads all of them
		}
		d := &decoder{source: newSource("profile")}
		d.decode(document.Content[0], fieldAt(reflect.ValueOf(payer).Elem(), s.Key), s.Key)
		if len(d.problems) > 0 {
			panic("config: a profile cannot be read: " + d.problems[0].String())
		}
	}
}

// fieldAt finds the field of a struct by the path of its key.
func fieldAt(value reflect.Value, path string) reflect.Value {
	for name := range strings.SplitSeq(path, ".") {
		value = value.Field(fieldsOf(value.Type())[name].index)
	}
	return value
}

// ProfileReference returns what docs/profiles.md says of each profile, as Markdown.
func ProfileReference() string {
	var out strings.Builder
	for i, p := range profiles {
		if i > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(&out, "### `%s`", p.Name)
		for _, alias := range p.Aliases {
			fmt.Fprintf(&out, ", also `%s`", alias)
		}
		fmt.Fprintf(&out, "\n\n%s.\n\n| key | value | why |\n|---|---|---|\n", p.Title)
		for _, s := range p.Settings {
			reason := s.Reason
			if s.needs != nil {
				reason += fmt.Sprintf(" Left out unless `%s` is `%s`.", s.needs.key, s.needs.value)
			}
			fmt.Fprintf(&out, "| `%s` | `%s` | %s |\n", s.Key, s.Value, reason)
		}
		out.WriteByte('\n')
		for _, note := range p.Notes {
			fmt.Fprintf(&out, "- %s\n", note)
		}
	}
	return out.String()
}
