package docs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// What the pages' programs import, so that this module has it.
	_ "github.com/jackc/pgx/v5"

	_ "ingestd/internal/payersim"
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

// What a page shows of a program is compiled, and vetted, within the frame that testdata/snippets has for the page.
func TestDocs_every_Go_snippet_compiles(t *testing.T) {
	t.Parallel()
	// Within the module, where a program may import what it wants; of testdata, nothing is built but by name.
	dir, err := os.MkdirTemp("testdata", "extracted-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
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
			in := filepath.Join(dir, name)
			if err := os.Mkdir(in, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(in, name+".go"), []byte(strings.Replace(string(frame), "SNIPPET", b.text, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			packages = append(packages, "./"+filepath.ToSlash(in))
		}
	}
	if len(packages) == 0 {
		t.Fatal("no page shows Go any more")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append([]string{"vet"}, packages...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
