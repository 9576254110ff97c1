package config

import (
	"maps"
	"slices"
)

// The places that the value of a setting comes from.
const (
	FromFile     = "file"
	FromDefault  = "default"
	FromAProfile = "profile"
)

// Shown is a setting of a payer as it can be shown: without secrets.
type Shown struct {
	// Key is its path in the payer.
	Key string
	// Value is as in a dump: references stand as they were written, the values of request headers not at all.
	Value string
	// From is FromFile, FromDefault or FromAProfile.
	From string
}

// Shown lists the settings that the payer is exported by, sorted by key. What is empty and switches nothing off is left out.
func (p Payer) Shown() []Shown {
	settings, standard := flatten(p.tree()), flatten(builtInPayer().tree())
	all := make([]Shown, 0, len(settings))
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		shown := Shown{Key: key, Value: settings[key], From: FromFile}
		if standing, known := standard[key]; known && standing == settings[key] {
			shown.From = FromDefault
		}
		if slices.Contains(p.FromProfile, key) {
			shown.From = FromAProfile
		}
		all = append(all, shown)
	}
	return all
}
