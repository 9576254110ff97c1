package config_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"ingestd/internal/config"
)

// FuzzParse proves that no text makes Parse panic, that it gives a configuration or problems and never both, and that a
// configuration is written so that it is read again.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good", "testdata/bad"} {
		entries, err := os.ReadDir(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".yaml") {
				continue
			}
			data, err := os.ReadFile(pattern + "/" + entry.Name())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("fuzz.yaml", data)
		if err != nil {
			failed, ok := errors.AsType[*config.Error](err)
			if !ok || c != nil || len(failed.Problems) == 0 {
				t.Fatalf("got %v, %v: want problems, and no configuration", c, err)
			}
			for _, p := range failed.Problems {
				if p.Text == "" || p.File != "fuzz.yaml" {
					t.Errorf("a problem says nothing, or of no file: %+v", p)
				}
			}
			return
		}
		dump, err := c.Dump()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(dump), "[redacted]") || len(c.Include) > 0 {
			return
		}
		if _, err := config.Parse("dump.yaml", dump); err != nil {
			t.Errorf("the dump is not read: %v\n%s", err, dump)
		}
	})
}
