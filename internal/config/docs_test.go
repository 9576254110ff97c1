package config_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"ingestd/internal/config"
)

const (
	referenceBegin = "<!-- reference: written by `go test ./internal/config -update` -->\n"
	referenceEnd   = "<!-- end of the reference -->\n"
)

func TestReference_in_the_documentation_is_that_of_the_types(t *testing.T) {
	t.Parallel()
	const name = "../../docs/configuration.md"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), referenceBegin)
	_, after, ended := strings.Cut(rest, referenceEnd)
	if !ok || !ended {
		t.Fatalf("%s does not hold %q and %q", name, referenceBegin, referenceEnd)
	}
	compareGolden(t, name, before+referenceBegin+"\n"+config.Reference()+"\n"+referenceEnd+after)
}

func TestReference_documents_every_key(t *testing.T) {
	t.Parallel()
	reference := config.Reference()
	for _, path := range keyPaths(reflect.TypeFor[config.Config](), "") {
		if !strings.Contains(reference, "`"+path+"`") {
			t.Errorf("%s is not documented", path)
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| .*$`).FindAllString(reference, -1) {
		if cells := strings.Split(row, " | "); len(cells) != 4 || slices.Contains(cells, "") || strings.HasSuffix(row, "|  |") {
			t.Errorf("a row of the reference is incomplete: %s", row)
		}
	}
}

func TestDocumentation_shows_configurations_that_are_valid(t *testing.T) {
	t.Parallel()
	var data []byte
	for _, name := range []string{"../../docs/configuration.md", "../../docs/profiles.md", "../../docs/notifications.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, text...)
	}
	shown := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		text := block[1]
		if !strings.Contains(text, "payers:") {
			continue
		}
		if !strings.Contains(text, "database:") {
			text = head + text
		}
		if _, err := config.Parse("docs", []byte(text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		shown++
	}
	if shown < 3 {
		t.Errorf("found %d configurations, want three or more", shown)
	}
}

// keyPaths lists the leaves of a type by its yaml tags, without the package's own way of doing so.
func keyPaths(t reflect.Type, path string) []string {
	var paths []string
	for f := range t.Fields() {
		name, ft := f.Tag.Get("yaml"), f.Type
		if name == "-" {
			continue
		}
		full := strings.TrimPrefix(path+"."+name, ".")
		if ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct {
			ft, full = ft.Elem(), full+"[]"
		}
		if ft.Kind() == reflect.Struct {
			paths = append(paths, keyPaths(ft, full)...)
		} else {
			paths = append(paths, full)
		}
	}
	return paths
}

func TestSchema_in_the_documentation_is_that_of_the_types(t *testing.T) {
	t.Parallel()
	schema, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "../../docs/ingestd.schema.json", string(schema))
}

func TestSchema_accepts_what_Load_accepts(t *testing.T) {
	t.Parallel()
	schema := parsedSchema(t)
	for _, name := range append(files(t, "testdata/good/*.yaml"), append(files(t, "../../deployments/config/*.yaml"), "../../deployments/kubernetes/base/ingestd.yaml")...) {
		if problems := validate(schema, parsedYAML(t, name), ""); len(problems) > 0 {
			t.Errorf("%s: %s", name, strings.Join(problems, "; "))
		}
	}
}

func TestSchema_refuses_wrong_types_and_unknown_keys(t *testing.T) {
	t.Parallel()
	schema := parsedSchema(t)
	for name, want := range map[string][]string{
		"types.yaml": {
			"database.max_connections", "admin", "log.level", "log.format", "shutdown.grace", "workers.control", "workers.downloads",
			"workers.chunk", "payers[0].enabled", "payers[0].limits.downloads", "payers[0].limits.poll_min",
			"payers[0].load.quarantine_max_share", "payers[0].load.remove_ghosts", "payers[0].export.types", "payers[0].jitter",
			"payers[0].download_hosts[1]", "payers[1]",
		},
		"unknown.yaml":  {"databse", "database.uri", "nonsense", "payers[0].exprot", "payers[0].auth.clientid", "payers[0].fhir_url"},
		"defaults.yaml": {"defaults.name", "defaults.limits.downloads", "defaults.auth.colour"},
		"missing.yaml":  {"keys[0].id", "keys[0].private_key", "payers[0].name", "payers[0].fhir_url"},
		"secrets.yaml":  {"database.url", "database.direct_url", "admin.token", "keys[0].private_key", "payers[0].auth.client_secret"},
	} {
		problems := validate(schema, parsedYAML(t, "testdata/bad/"+name), "")
		for _, path := range want {
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, path+": ") }) {
				t.Errorf("%s: %s is accepted; got %s", name, path, strings.Join(problems, "; "))
			}
		}
	}
}

func parsedSchema(t *testing.T) map[string]any {
	t.Helper()
	text, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatalf("the schema is not JSON: %v", err)
	}
	return schema
}

// parsedYAML reads a file as an editor does: with YAML's own types. Keys that stand twice are none of the schema's matter.
func parsedYAML(t *testing.T, name string) any {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return plain(root.Content[0])
}

func plain(node *yaml.Node) any {
	switch node.Kind {
	case yaml.AliasNode:
		return plain(node.Alias)
	case yaml.SequenceNode:
		list := make([]any, 0, len(node.Content))
		for _, element := range node.Content {
			list = append(list, plain(element))
		}
		return list
	case yaml.MappingNode:
		mapping := make(map[string]any)
		for i := 0; i < len(node.Content); i += 2 {
			if node.Content[i].Value != "<<" {
				mapping[node.Content[i].Value] = plain(node.Content[i+1])
				continue
			}
			merged, ok := plain(node.Content[i+1]).([]any)
			if !ok {
				merged = []any{plain(node.Content[i+1])}
			}
			for _, m := range merged {
				for key, value := range m.(map[string]any) {
					if _, own := mapping[key]; !own {
						mapping[key] = value
					}
				}
			}
		}
		return mapping
	}
	var value any
	switch node.ShortTag() {
	case "!!int", "!!float":
		var n float64
		if err := node.Decode(&n); err != nil {
			return node.Value
		}
		value = n
	case "!!bool":
		value = node.Value == "true"
	case "!!null":
	default:
		value = node.Value
	}
	return value
}
