package docs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDocs_every_JSON_that_a_page_shows_is_JSON(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.lang != "json" || b.notRun != "" {
				continue
			}
			checked++
			var value any
			if err := json.Unmarshal([]byte(b.text), &value); err != nil {
				t.Errorf("%s: %v", b, err)
			}
		}
	}
	if checked == 0 {
		t.Error("no page shows JSON any more")
	}
}

// What a page shows of a program is compiled within the frame that testdata/snippets has for the page.
func TestDocs_every_Go_snippet_compiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	var packages []string
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.lang != "go" {
				continue
			}
			name := strings.TrimSuffix(filepath.Base(p.name), ".md")
			frame, err := os.ReadFile(filepath.Join("testdata/snippets", name+".go.txt"))
			if err != nil {
				t.Errorf("%s has no frame: %v", b, err)
				continue
			}
			text := strings.Replace(string(frame), "SNIPPET", b.text, 1)
			file := filepath.Join(dir, name+".go")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			// Within the module, where a program may import what it wants; nothing is written there.
			here, err := filepath.Abs(filepath.Join("snippet", name, name+".go"))
			if err != nil {
				t.Fatal(err)
			}
			overlay.Replace[here] = file
			packages = append(packages, "./"+filepath.ToSlash(filepath.Join("snippet", name)))
		}
	}
	if len(packages) == 0 {
		t.Fatal("no page shows Go any more")
	}
	plan, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, plan, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", append([]string{"build", "-overlay", file}, packages...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "go", append([]string{"vet", "-overlay", file}, packages...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
