// Command faults provokes the faults of docs/reliability.md one after the other and says what came of each: it runs the tests that the
// table names. It ends with 0 only where every row has a test, and each ran and passed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ingestd/internal/reliability"
)

func main() {
	os.Exit(run())
}

// packages are where the packages of the table lie. Those whose tests are not processes of their own run with the race detector.
var packages = map[string]reliability.Package{
	"config":      {Path: "./internal/config", Args: []string{"-race"}},
	"daemon":      {Path: "./internal/daemon"},
	"e2e":         {Path: "./internal/e2e", Args: []string{"-tags", "faults", "-parallel", "8", "-timeout", "30m"}},
	"embedded":    {Path: "./internal/store/embedded"},
	"export":      {Path: "./internal/export", Args: []string{"-race"}},
	"exportlog":   {Path: "./internal/exportlog", Args: []string{"-race"}},
	"fhir":        {Path: "./internal/fhir", Args: []string{"-race"}},
	"ingestd":     {Path: "./cmd/ingestd"},
	"ops":         {Path: "./internal/ops", Args: []string{"-tags", "faults"}},
	"page":        {Path: "./internal/ops/page"},
	"outbound":    {Path: "./internal/outbound", Args: []string{"-race"}},
	"reliability": {Path: "./internal/reliability"},
	"scheduler":   {Path: "./internal/scheduler", Args: []string{"-short"}}, // some months of a fleet; make test runs the year
	"smartauth":   {Path: "./internal/smartauth", Args: []string{"-race"}},
	"store":       {Path: "./internal/store"},
}

// defaultTimeout bounds the whole run.
const defaultTimeout = 40 * time.Minute

func run() int {
	page := flag.String("table", "docs/reliability.md", "the `file` that holds the table")
	output := flag.String("output", "build/faults.json", "the `file` that the results are written to")
	only := flag.Int("row", 0, "run the tests of this `number` alone; 0: all rows")
	goCommand := flag.String("go", "go", "the go `command`")
	timeout := flag.Duration("timeout", defaultTimeout, "bounds the run")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	summary, err := prove(ctx, *page, *only, *goCommand)
	if err == nil {
		err = summary.Print(os.Stdout)
	}
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(*output), 0o750); err == nil {
			err = summary.Write(*output)
		}
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	case !summary.Whole():
		return 1
	}
	return 0
}

func prove(ctx context.Context, page string, only int, goCommand string) (reliability.Summary, error) {
	began := time.Now()
	text, err := os.ReadFile(page)
	if err != nil {
		return reliability.Summary{}, fmt.Errorf("read the table: %w", err)
	}
	rows, err := reliability.Parse(string(text))
	if err != nil {
		return reliability.Summary{}, fmt.Errorf("read the table: %w", err)
	}
	if only > 0 && only <= len(rows) {
		rows = rows[only-1 : only]
	}
	proofs, err := reliability.Run(ctx, reliability.Options{
		Go: goCommand,
		Packages: func(name string) (reliability.Package, error) {
			p, ok := packages[name]
			if !ok {
				return p, fmt.Errorf("cmd/faults does not know where package %s lies", name)
			}
			return p, nil
		},
		Report: func(name string, took time.Duration) {
			fmt.Fprintf(os.Stderr, "%s: %.0f s\n", name, took.Seconds())
		},
	}, rows, os.Stderr)
	if err != nil {
		return reliability.Summary{}, err
	}
	return reliability.Summarize(proofs, time.Since(began)), nil
}
