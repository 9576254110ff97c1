package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// allowed are the licences, by their SPDX names, whose conditions a binary under Apache-2.0 can keep.
var allowed = map[string]bool{
	"Apache-2.0": true, "MIT": true, "BSD-2-Clause": true, "BSD-3-Clause": true, "ISC": true, "MPL-2.0": true, "0BSD": true, "Unlicense": true,
}

// marks are words that a licence's text has and the others have not, in the order in which they are looked for.
var marks = []struct {
	name string
	all  []string
}{
	{"MPL-2.0", []string{"mozilla public license", "version 2.0"}}, // names the GNU licences, as secondary ones
	{"AGPL-3.0", []string{"gnu affero general public license"}},
	{"LGPL", []string{"gnu lesser general public license", "version"}},
	{"GPL", []string{"gnu general public license", "version"}},
	{"Apache-2.0", []string{"apache license", "version 2.0"}},
	{"MIT", []string{"permission is hereby granted, free of charge", "the software is provided \"as is\""}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "neither the name"}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "names of its contributors"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms", "disclaimer"}},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"}},
	{"ISC", []string{"permission to use, copy, modify, and distribute this software for any purpose with or without fee"}},
	{"Unlicense", []string{"this is free and unencumbered software released into the public domain"}},
}

// classify names the licence of a text, empty where it is none of those that are known.
func classify(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	text = strings.NewReplacer("“", `"`, "”", `"`, "``", `"`, "''", `"`).Replace(text)
	for _, mark := range marks {
		found := true
		for _, words := range mark.all {
			found = found && strings.Contains(text, words)
		}
		if found {
			return mark.name
		}
	}
	return ""
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)

// licencesIn returns the licences of the files that a module has for them at its top, each once. Who has several lets one choose, or
// has parts of others: all of them count.
func licencesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for a licence: %w", err)
	}
	known := make(map[string]bool)
	var names []string
	for _, entry := range entries {
		if entry.IsDir() || !licenceFile.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read a licence: %w", err)
		}
		name := classify(string(text))
		if name == "" {
			name = "unknown (" + entry.Name() + ")"
		}
		if !known[name] {
			known[name] = true
			names = append(names, name)
		}
	}
	return names, nil
}

func checkLicences(ctx context.Context, repository string, out io.Writer) error {
	modules, err := modulesOf(ctx, repository)
	if err != nil {
		return err
	}
	refused := 0
	for _, m := range modules {
		names, err := licencesIn(m.Dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
		note := ""
		if !permitted(names) {
			refused++
			note = "  NOT ALLOWED"
		}
		fmt.Fprintf(out, "%-52s %-44s %s%s\n", m.Path, m.Version, strings.Join(names, ", "), note)
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d modules stand under no licence that is allowed", refused, len(modules))
	}
	return nil
}

// permitted reports whether there is a licence, and none that is not allowed.
func permitted(names []string) bool {
	for _, name := range names {
		if !allowed[name] {
			return false
		}
	}
	return len(names) > 0
}
