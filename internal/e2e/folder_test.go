package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

// folder is a payer that serves lines as they stand.
func (s *site) folder(name string, files map[string][]string) payer {
	s.t.Helper()
	dir := s.t.TempDir()
	for file, lines := range files {
		if err := os.WriteFile(filepath.Join(dir, file+".ndjson"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.payer(name, payersim.Options{DataDir: dir, LinesPerFile: 3})
}

const folderExtra = "export: {level: system, types: [Patient]}\nlimits: " + limits + "}"

func patient(id, version, updated, gender string) string {
	return fmt.Sprintf(`{"resourceType":"Patient","id":%q,"meta":{"versionId":%q,"lastUpdated":%q},"gender":%q}`, id, version, updated, gender)
}

func TestRun_takes_the_newest_of_resources_that_repeat_within_and_between_files(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const old, newer = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
	p := s.folder("acme", map[string][]string{"Patient": {
		patient("equal", "1", old, "male"), patient("equal", "1", old, "male"),
		patient("newer-later", "1", old, "male"), patient("older-later", "2", newer, "female"), // the next file
		patient("newer-later", "2", newer, "female"), patient("older-later", "1", old, "male"), patient("alone", "1", old, "male"),
		patient("same-time", "1", old, "male"), patient("same-time", "2", old, "female"),
	}})
	s.configure("", []payer{p}, folderExtra)
	got := s.runJSON("acme")
	if got.Lines != 9 || got.Inserted != 5 || got.Superseded != 4 {
		t.Errorf("got %+v, want 5 of 9 lines, and 4 superseded", got)
	}
	for id, gender := range map[string]string{"equal": "male", "newer-later": "female", "older-later": "female", "same-time": "female", "alone": "male"} {
		if n := s.number(`SELECT count(*) FROM fhir.patient WHERE id = $1 AND resource ->> 'gender' = $2`, id, gender); n != 1 {
			t.Errorf("%s is not the newest", id)
		}
	}
	if again := s.runJSON("acme", "--full"); again.Inserted+again.Updated+again.Deleted+again.Ghosts != 0 {
		t.Errorf("the same again: got %+v", again)
	}
}

func TestRun_of_a_payer_that_suddenly_holds_almost_nothing_is_held_until_an_operator_decides(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lines := make([]string, 40)
	for i := range lines {
		lines[i] = patient(fmt.Sprintf("p%d", i), "1", "2024-01-01T00:00:00Z", "male")
	}
	whole := s.folder("acme", map[string][]string{"Patient": lines})
	s.configure("", []payer{whole}, folderExtra)
	if got := s.runJSON("acme"); got.Inserted != 40 {
		t.Fatalf("got %+v", got)
	}
	less := s.folder("acme", map[string][]string{"Patient": lines[:2]})
	s.configure("", []payer{less}, folderExtra)
	held := func() string {
		t.Helper()
		if out, err := s.run("run", "acme", "--full"); err == nil {
			t.Fatalf("it is published: %s", out)
		}
		if n := s.number(`SELECT count(*) FROM fhir.patient`); n != 40 {
			t.Errorf("readers see %d patients, want 40", n)
		}
		return decimal(s.number(`SELECT id FROM ingest.export WHERE state = 'held' AND error_code = 'ghost_guard'`))
	}
	if _, err := s.run("exports", "reject", held()); err != nil {
		t.Fatal(err)
	}
	if n := s.number(`SELECT count(*) FROM fhir.patient`); n != 40 {
		t.Errorf("after a reject there are %d patients, want 40", n)
	}
	if _, err := s.run("exports", "release", held()); err != nil {
		t.Fatal(err)
	}
	daemon := s.start("serve")
	s.wait("the publish", func() bool { return s.published("acme") == 2 })
	s.stop(daemon)
	if n := s.number(`SELECT count(*) FROM fhir.patient`); n != 2 {
		t.Errorf("after a release there are %d patients, want 2", n)
	}
}
