package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 16 << 20

// Load reads a configuration file and those that it includes, applies the defaults and checks everything that can be
// checked offline. The error is an *Error with all problems, or says that the file cannot be read.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parse(path, data, true)
}

// Parse is Load for a configuration that is at hand. Its name stands in messages; it cannot include files.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, false) }

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &Error{[]Problem{{File: path, Text: "cannot be read: " + cause(err)}}}
	}
	if info.Size() > maxFileBytes {
		return nil, &Error{[]Problem{{File: path, Text: fmt.Sprintf("is larger than %d bytes", maxFileBytes)}}}
	}
	data, err := os.ReadFile(path) //nolint:gosec // the operator's own choice
	if err != nil {
		return nil, &Error{[]Problem{{File: path, Text: "cannot be read: " + cause(err)}}}
	}
	return data, nil
}

// cause is what a file system error says without repeating the path.
func cause(err error) string {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

func parse(name string, data []byte, includes bool) (*Config, error) {
	c := builtIn()
	p := &parser{config: c, decoder: decoder{file: name, lines: make(map[string]int)}}
	p.readMain(data, includes)
	if len(p.decoder.problems) == 0 {
		p.check()
	}
	if problems := p.decoder.problems; len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b Problem) int {
			if a.File != b.File {
				return 0
			}
			return a.Line - b.Line
		})
		return nil, &Error{problems}
	}
	return c, nil
}

// parser is the reading of one configuration.
type parser struct {
	config   *Config
	decoder  decoder
	defaults *yaml.Node // the file's defaults, laid under each payer
	payers   []source   // where each payer stands
}

// source is where a payer stands, for problems that are found when all are known.
type source struct {
	file  string
	path  string
	lines map[string]int
}

// root parses a file's text and returns its top mapping; nil where there is none.
func (p *parser) root(data []byte) *yaml.Node {
	loader := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := loader.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		p.decoder.problem(nil, "", "is empty: expected at least database and payers")
		return nil
	case err != nil:
		p.decoder.problem(nil, "", "is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	var second yaml.Node
	if err := loader.Decode(&second); !errors.Is(err, io.EOF) {
		p.decoder.problem(&second, "", "holds more than one document: expected one")
		return nil
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		p.decoder.problem(&document, "", "expected a mapping of keys")
		return nil
	}
	return document.Content[0]
}

// readMain reads the main file: everything but payers and defaults is decoded as it stands.
func (p *parser) readMain(data []byte, includes bool) {
	root := p.root(data)
	if root == nil {
		return
	}
	rest, payers, defaults := split(root)
	for _, name := range []string{"payers", "defaults"} {
		if again := child(rest, name); again != nil {
			p.decoder.problem(again, name, "stands here for the second time")
			return
		}
	}
	if defaults != nil {
		p.defaults = defaults
		var probe Payer
		p.decoder.decode(defaults, reflect.ValueOf(&probe).Elem(), "defaults", 1)
		for _, own := range []string{"name", "fhir_url"} {
			if at := child(defaults, own); at != nil {
				p.decoder.problem(at, "defaults."+own, "belongs to a payer: a default would be the same for all")
			}
		}
	}
	p.decoder.decode(rest, reflect.ValueOf(p.config).Elem(), "", 0)
	p.readPayers(payers)
	if includes {
		for _, pattern := range p.config.Include {
			p.include(pattern)
		}
	} else if len(p.config.Include) > 0 {
		p.decoder.problem(nil, "include", "cannot be used here: there is no file to be relative to")
	}
	for i := range p.config.Keys {
		if p.config.Keys[i].State == "" {
			p.config.Keys[i].State = "active"
		}
	}
}

// include reads the files of a pattern: payers and keys, and nothing else.
func (p *parser) include(pattern string) {
	main := p.decoder
	path := pattern
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(main.file), pattern)
	}
	files, err := filepath.Glob(path)
	if err != nil {
		p.decoder.problem(nil, "include", "%q is not a pattern of file names", pattern)
		return
	}
	if len(files) == 0 && !strings.ContainsAny(pattern, "*?[") {
		p.decoder.problem(nil, "include", "%s does not exist", path)
		return
	}
	slices.Sort(files)
	for _, name := range files {
		included := &parser{config: &Config{}, defaults: p.defaults, decoder: decoder{file: name, lines: make(map[string]int)}}
		data, err := readFile(name)
		if err != nil {
			var failed *Error
			if errors.As(err, &failed) {
				p.decoder.problems = append(p.decoder.problems, failed.Problems...)
			}
			continue
		}
		if root := included.root(data); root != nil {
			for i := 0; i+1 < len(root.Content); i += 2 {
				if key := root.Content[i]; key.Value != "payers" && key.Value != "keys" {
					included.decoder.problem(key, key.Value, "cannot stand in an included file: expected payers or keys")
				}
			}
			rest, payers, _ := split(root)
			if len(included.decoder.problems) == 0 {
				included.decoder.decode(rest, reflect.ValueOf(included.config).Elem(), "", 0)
				included.readPayers(payers)
			}
		}
		p.config.Keys = append(p.config.Keys, included.config.Keys...)
		p.config.Payers = append(p.config.Payers, included.config.Payers...)
		p.payers = append(p.payers, included.payers...)
		p.decoder.problems = append(p.decoder.problems, included.decoder.problems...)
	}
}

// split takes payers and defaults out of a file's top mapping.
func split(root *yaml.Node) (rest, payers, defaults *yaml.Node) {
	copied := *root
	copied.Content = nil
	rest = &copied
	for i := 0; i+1 < len(root.Content); i += 2 {
		// A second payers or defaults stays in the rest, where it is found to be one too many.
		switch key, value := root.Content[i], root.Content[i+1]; {
		case key.Value == "payers" && payers == nil:
			payers = value
		case key.Value == "defaults" && defaults == nil:
			defaults = value
		default:
			rest.Content = append(rest.Content, key, value)
		}
	}
	return rest, payers, defaults
}

func child(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i]
		}
	}
	return nil
}

// readPayers decodes each payer over the built-in defaults and the file's.
func (p *parser) readPayers(list *yaml.Node) {
	if list == nil || isNull(list) {
		return
	}
	if list.Kind != yaml.SequenceNode {
		p.decoder.problem(list, "payers", "expected a list, got %s", describe(list))
		return
	}
	for i, node := range list.Content {
		payer := builtInPayer()
		path := fmt.Sprintf("payers[%d]", i)
		if p.defaults != nil {
			quiet := decoder{file: p.decoder.file, lines: make(map[string]int)} // its problems have been reported
			quiet.decode(p.defaults, reflect.ValueOf(&payer).Elem(), "defaults", 1)
		}
		p.decoder.decode(node, reflect.ValueOf(&payer).Elem(), path, 1)
		payer.Source = fmt.Sprintf("%s:%d", p.decoder.file, node.Line)
		p.config.Payers = append(p.config.Payers, payer)
		p.payers = append(p.payers, source{p.decoder.file, path, p.decoder.lines})
	}
}

// builtIn is the configuration in which nothing was written.
func builtIn() *Config {
	return &Config{
		Database: Database{Schema: "fhir", MaxConnections: 10},
		Admin:    Admin{Listen: "127.0.0.1:8090"},
		Log:      Log{Level: "info", Format: "json"},
		Shutdown: Shutdown{Grace: 25 * time.Second},
		Workers:  Workers{Control: 8, Downloads: 8, Chunk: 4 << 20},
	}
}

// builtInPayer is a payer of which nothing was written.
func builtInPayer() Payer {
	return Payer{
		Enabled:  true,
		Auth:     Auth{Method: "private_key_jwt"},
		Timezone: "UTC",
		Export:   Export{Level: "system", Method: "get", Since: "auto", SinceOverlap: 10 * time.Minute, Timeout: 24 * time.Hour},
		Limits:   Limits{Downloads: 4, PollMin: 5 * time.Second, PollMax: 5 * time.Minute, MaxLine: 64 << 20},
		TLS:      TLS{MinVersion: "1.2"},
		Load:     Loading{History: "deletes", QuarantineMaxShare: 0.001, RemoveGhosts: true, GhostMaxShare: 0.2},
	}
}
