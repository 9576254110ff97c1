package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/config"
)

var update = flag.Bool("update", false, "write the golden files and the generated documentation")

// compareGolden compares a text with a file, or writes the file under -update.
func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files match %s: %v", pattern, err)
	}
	return names
}

func TestLoad_names_every_problem_with_its_line_and_what_was_expected(t *testing.T) {
	t.Parallel()
	for _, name := range files(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			c, err := config.Load(name)
			var failed *config.Error
			if !errors.As(err, &failed) || c != nil || len(failed.Problems) == 0 {
				t.Fatalf("got %v, %v: want no configuration, and an Error with problems", c, err)
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "HUNTER2") {
				t.Errorf("a secret stands in a message:\n%s", got)
			}
			dir, err := filepath.Abs("testdata/bad")
			if err != nil {
				t.Fatal(err)
			}
			got = strings.ReplaceAll(got, dir+"/", "")
			compareGolden(t, strings.TrimSuffix(name, ".yaml")+".golden", strings.ReplaceAll(got, "testdata/bad/", ""))
		})
	}
}
