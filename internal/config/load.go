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

	"go.yaml.in/yaml/v4"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 16 << 20

// Load reads a configuration file and those that it includes, applies the defaults and checks everything that can be
// checked offline. File names in the configuration are relative to the file that names them. The error is an *Error with
// all problems.
//
// The path env:NAME stands for an environment variable that holds the text, for containers that can be given no file.
func Load(path string) (*Config, error) {
	if name, ok := strings.CutPrefix(path, "env:"); ok {
		text, set := os.LookupEnv(name)
		if !set {
			return nil, &Error{[]Problem{{File: path, Text: "is not set: expected an environment variable that holds the configuration"}}}
		}
		return Parse(path, []byte(text))
	}
	p := newParser(path)
	data, err := p.readFile(path)
	if err != nil {
		p.problems = append(p.problems, Problem{File: path, Text: err.Error()})
		return p.result()
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find the directory of %s: %w", path, err)
	}
	p.readMain(data, dir)
	p.include(filepath.Dir(path))
	return p.result()
}

// Parse is Load for a configuration that is at hand. The name stands in messages; the text cannot include files, and file
// names in it are relative to the working directory.
func Parse(name string, data []byte) (*Config, error) {
	p := newParser(name)
	p.readMain(data, "")
	if len(p.config.Include) > 0 {
		p.at(p.main, "include", "cannot be used here: there is no file that it could be relative to")
	}
	return p.result()
}

// readFile reads a configuration file, which may also be a pipe.
func (p *parser) readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil {
		p.read = append(p.read, info)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", cause(err))
	case len(data) > maxFileBytes:
		return nil, fmt.Errorf("is larger than %s", Size(maxFileBytes))
	}
	return data, nil
}

// cause is what a file system error says without the path, which messages name already.
func cause(err error) error {
	if pathError, ok := errors.AsType[*os.PathError](err); ok {
		return pathError.Err
	}
	return err
}

// parser is the reading of one configuration.
type parser struct {
	config   *Config
	problems []Problem
	main     *source
	// defaults are the file's, laid under each payer; nil where there are none. They are relative to dir.
	defaults *yaml.Node
	dir      string
	// defaultProfile is the profile that the defaults name.
	defaultProfile string
	// keys and payers say where each of the configuration's stands.
	keys, payers []location
	// read identifies the files that were read.
	read []os.FileInfo
}

// location is where a part of the configuration stands, for problems that are found when all parts are known.
type location struct {
	*source
	path string
}

func newParser(name string) *parser {
	p := &parser{config: builtIn(), main: newSource(name)}
	p.config.Files = []string{name}
	return p
}

// at reports a problem of a key that stands in a file.
func (p *parser) at(s *source, path, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: s.file, Line: s.lines[path], Path: path, Text: fmt.Sprintf(format, args...)})
}

// result checks what was read, and returns it only if nothing is wrong with it.
func (p *parser) result() (*Config, error) {
	if len(p.main.lines) > 0 {
		p.check()
	}
	if len(p.problems) > 0 {
		return nil, &Error{inOrder(p.problems, p.config.Files)}
	}
	return p.config, nil
}

// root parses a file's text and returns its top mapping; nil where there is none.
func (p *parser) root(file string, data []byte) *yaml.Node {
	problem := func(line int, format string, args ...any) {
		p.problems = append(p.problems, Problem{File: file, Line: line, Text: fmt.Sprintf(format, args...)})
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := documents.Decode(&document); errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}
	} else if err != nil {
		line, text := syntaxError(err)
		problem(line, "is not YAML: %s", text)
		return nil
	}
	if err := documents.Decode(&second); !errors.Is(err, io.EOF) {
		problem(second.Line, "holds more than one document: expected one")
		return nil
	}
	if len(document.Content) == 1 && isNull(document.Content[0]) {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		problem(document.Line, "expected a mapping of keys")
		return nil
	}
	return document.Content[0]
}

// syntaxError says what is wrong with YAML, and where. It leaves out what the parser quotes from the file: a secret that
// begins with an asterisk is an alias to the parser.
func syntaxError(err error) (line int, text string) {
	failed, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return 0, "it cannot be read"
	}
	if strings.HasPrefix(failed.Message, "unknown anchor") {
		return failed.Mark.Line, "an alias names no anchor (a value that begins with * must be quoted)"
	}
	return failed.Mark.Line, failed.Message
}

// readMain reads the main file. Its defaults come first, because payers are laid over them, wherever they stand.
func (p *parser) readMain(data []byte, dir string) {
	root := p.root(p.main.file, data)
	if root == nil {
		return
	}
	p.dir = dir
	d := &decoder{source: p.main, dir: dir}
	top := d.top(root)
	if defaults, ok := top["defaults"]; ok {
		p.readDefaults(d, defaults)
	}
	p.readRest(d, top)
	p.problems = append(p.problems, d.problems...)
	if _, ok := top["payers"]; !ok && len(p.config.Include) == 0 && !d.bad["include"] {
		p.problems = append(p.problems,
			Problem{File: d.file, Line: root.Line, Path: "payers", Text: "is missing: expected a list of payers, here or in an included file"})
	}
}

// top lists the top keys of a file, and reports those that are not known.
func (d *decoder) top(root *yaml.Node) map[string]pair {
	d.lines[""] = root.Line
	known := topKeys()
	top := make(map[string]pair)
	for _, pair := range d.pairs(root, "") {
		if !slices.Contains(known, pair.name) {
			d.problemOn(pair.line, pair.name, "unknown key: %s", suggest(pair.name, known))
			continue
		}
		d.lines[pair.name] = pair.line
		top[pair.name] = pair
	}
	return top
}

// topKeys are the keys that may stand at the top of the main file.
func topKeys() []string {
	var names []string
	for _, f := range orderedFields(reflect.TypeFor[Config]()) {
		if f.key == "payers" {
			names = append(names, "defaults")
		}
		names = append(names, f.key)
	}
	return names
}

// readDefaults reads the defaults once by themselves, for the problems in them.
func (p *parser) readDefaults(d *decoder, defaults pair) {
	p.defaults = defaults.value
	var probe Payer
	d.decode(defaults.value, reflect.ValueOf(&probe).Elem(), "defaults")
	p.defaultProfile = probe.Profile
	for _, own := range []string{"defaults.name", "defaults.fhir_url"} {
		if line, ok := d.lines[own]; ok {
			d.problemOn(line, own, "belongs to a payer: expected any other setting, a default is for all of them")
		}
	}
}

// readRest decodes all top keys of a file but the defaults.
func (p *parser) readRest(d *decoder, top map[string]pair) {
	target := reflect.ValueOf(p.config).Elem()
	for _, f := range orderedFields(target.Type()) {
		pair, ok := top[f.key]
		switch {
		case !ok:
		case f.key == "keys":
			readList(d, pair, func(node *yaml.Node, path string) {
				key := builtInKey()
				d.decode(node, reflect.ValueOf(&key).Elem(), path)
				key.Source = fmt.Sprintf("%s:%d", d.file, d.lines[path])
				p.config.Keys = append(p.config.Keys, key)
				p.keys = append(p.keys, location{d.source, path})
			})
		case f.key == "notify":
			readList(d, pair, func(node *yaml.Node, path string) {
				target := builtInNotify()
				d.decode(node, reflect.ValueOf(&target).Elem(), path)
				target.Source = fmt.Sprintf("%s:%d", d.file, d.lines[path])
				for name, value := range target.Headers {
					target.Headers[name] = string(Secret(value).inDir(d.dir))
				}
				p.config.Notify = append(p.config.Notify, target)
			})
		case f.key == "payers":
			readList(d, pair, func(node *yaml.Node, path string) {
				payer := p.newPayer(d, node, path)
				d.decode(node, reflect.ValueOf(&payer).Elem(), path)
				payer.Source = fmt.Sprintf("%s:%d", d.file, d.lines[path])
				p.config.Payers = append(p.config.Payers, payer)
				p.payers = append(p.payers, location{d.source, path})
			})
		default:
			d.decode(pair.value, target.Field(f.index), f.key)
			if f.key == "tracing" {
				for name, value := range p.config.Tracing.Headers {
					p.config.Tracing.Headers[name] = string(Secret(value).inDir(d.dir))
				}
			}
		}
	}
}

// readList reads the elements of a list whose elements do not begin as zero values.
func readList(d *decoder, list pair, read func(node *yaml.Node, path string)) {
	node := list.value
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if isNull(node) {
		return
	}
	if node.Kind != yaml.SequenceNode {
		d.problem(list.name, "expected a list, got %s", kind(node))
		return
	}
	for i, element := range node.Content {
		path := fmt.Sprintf("%s[%d]", list.name, i)
		d.lines[path] = element.Line
		read(element, path)
	}
}
