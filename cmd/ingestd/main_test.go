package main

import (
	"flag"
	"os"
	"testing"

	"ingestd/internal/testpg"
)

var update = flag.Bool("update", false, "write the golden files and docs/cli.md anew")

func TestMain(m *testing.M) {
	// What the machine's user has set must not show in the tests.
	for _, name := range []string{"INGESTD_CONFIG", serverVariable, tokenVariable, "SUDO_USER", "COLUMNS"} {
		_ = os.Unsetenv(name) // it cannot fail for these names
	}
	testpg.Main(m)
}
