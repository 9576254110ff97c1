package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// include reads the files that the main file includes, in the order of their names: payers and keys, and nothing else.
func (p *parser) include(dir string) {
	for i, pattern := range p.config.Include {
		at := fmt.Sprintf("include[%d]", i)
		if pattern == "" {
			continue // bounds reports it
		}
		names, err := filepath.Glob(inDir(dir, pattern))
		switch {
		case err != nil:
			p.at(p.main, at, "%s is not a pattern of file names", excerpt(pattern))
		case len(names) == 0 && !strings.ContainsAny(pattern, "*?["):
			p.at(p.main, at, "%s does not exist", inDir(dir, pattern))
		}
		slices.Sort(names)
		for _, name := range names {
			if !p.wasRead(name) {
				p.includeFile(name)
			}
		}
	}
}

// wasRead reports whether a file is one of those that were read: patterns may overlap, or match the main file.
func (p *parser) wasRead(name string) bool {
	info, err := os.Stat(name)
	return err == nil && slices.ContainsFunc(p.read, func(read os.FileInfo) bool { return os.SameFile(info, read) })
}

func (p *parser) includeFile(name string) {
	p.config.Files = append(p.config.Files, name)
	// A pattern matches whatever lies in the directory; to open a pipe would wait for its writer, and a device has no end.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		p.problems = append(p.problems, Problem{File: name, Text: "is not a regular file"})
		return
	}
	data, err := p.readFile(name)
	if err != nil {
		p.problems = append(p.problems, Problem{File: name, Text: err.Error()})
		return
	}
	root := p.root(name, data)
	if root == nil {
		return
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		p.problems = append(p.problems, Problem{File: name, Text: "its directory cannot be found: " + err.Error()})
		return
	}
	d := &decoder{source: newSource(name), dir: dir}
	top := d.top(root)
	for key, pair := range top {
		if key != "payers" && key != "keys" {
			d.problemOn(pair.line, key, "cannot stand in an included file: expected payers or keys")
			delete(top, key)
		}
	}
	p.readRest(d, top)
	p.problems = append(p.problems, d.problems...)
}
