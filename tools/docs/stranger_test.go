package docs

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A stranger has a clone, Go and make, and follows docs/getting-started.md to the letter: these are its blocks, in an environment that
// has nothing prepared. Only the directory and the ports of the trial are others than the page's.
func TestGettingStarted_leads_a_stranger_from_make_to_rows(t *testing.T) {
	t.Parallel()
	p, err := parse(strangersPath)
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, b := range p.blocks {
		if b.notRun != "" {
			t.Logf("not run: %s: %s", b, b.notRun)
		}
	}
	s := bareSite(t)
	// The private Postgres runs as another user, who must be able to pass: not below the test's own directory.
	trial, err := os.MkdirTemp("", "ingestd-trial-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(trial) })
	if err := os.Chmod(trial, 0o755); err != nil {
		t.Fatal(err)
	}
	clone, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path("work")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(clone, s.path("work")); err != nil {
		t.Fatal(err)
	}
	for _, b := range p.blocks {
		b.text = strings.ReplaceAll(b.text, "/tmp/ingestd-trial", trial)
		if b.executed() {
			commands += countCommands(b.text)
		}
	}
	if commands >= 10 {
		t.Errorf("the path has %d commands: expected fewer than ten", commands)
	}
	s.stranger = true
	s.execute(p)

	// What stands in the tables is what the simulated payer holds, id for id.
	for table, resourceType := range map[string]string{"patient": "Patient", "coverage": "Coverage", "explanation_of_benefit": "ExplanationOfBenefit"} {
		query := exec.CommandContext(t.Context(), filepath.Join(clone, "build/ingestd"), "psql", "--config", filepath.Join(trial, "ingestd.yaml"),
			"--", "-qXAtc", "SELECT id FROM fhir."+table+" ORDER BY id")
		out, err := query.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Fields(string(out)), s.truth(resourceType); len(want) < 40 || !slices.Equal(got, want) {
			t.Errorf("%s: the table holds %d ids, the payer %d, and they are not the same", resourceType, len(got), len(want))
		}
	}
}

// truth are the ids of a type that the payer which the page started holds, in order.
func (s *site) truth(resourceType string) []string {
	s.t.Helper()
	response, err := http.Get("http://" + s.own + "/_sim/truth?type=" + resourceType)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var ids []string
	for decoder := json.NewDecoder(response.Body); ; {
		var resource struct{ ID string }
		if err := decoder.Decode(&resource); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, resource.ID)
	}
	slices.Sort(ids)
	return ids
}

// countCommands counts the commands that a stranger types, over however many lines.
func countCommands(script string) int {
	n, end, quoted := 0, "", false
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		switch {
		case end != "":
			if line == end {
				end = ""
			}
			continue
		case line != "" && !strings.HasPrefix(line, "#") && !quoted:
			n++
			if _, tag, ok := strings.Cut(line, "<<'"); ok {
				end, _, _ = strings.Cut(tag, "'")
				continue
			}
		}
		if strings.Count(line, `"`)%2 == 1 {
			quoted = !quoted
		}
	}
	return n
}
