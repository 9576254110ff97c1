package reliability

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Package is how the tests of a package are run.
type Package struct {
	Path string // as the go command takes it
	Args []string
}

// Options say how the tests are run.
type Options struct {
	Go  string // the go command
	Dir string // the repository
	// Packages tells where a package of the table lies, and with which flags its tests are run.
	Packages func(name string) (Package, error)
	// Report is told of each package that has been run; may be nil.
	Report func(name string, took time.Duration)
}

// outcome is what became of a test or subtest.
type outcome struct {
	Action  string
	Seconds float64
}

// Result is what became of one test of a row.
type Result struct {
	Test    string  `json:"test"`
	Result  string  `json:"result"` // pass, fail, skip, or missing: it did not run
	Count   int     `json:"count"`  // of tests and subtests that the row means
	Seconds float64 `json:"seconds"`
}

// Proof is a row with what became of its tests.
type Proof struct {
	Number int      `json:"number"`
	Fault  string   `json:"fault"`
	Kept   string   `json:"kept"`
	Passed bool     `json:"passed"`
	Tests  []Result `json:"tests"`
}

// Run runs the tests of all rows, package by package, each once however many rows name it. The output of what failed is written to
// log. An error says that tests could not be run; a test that fails is none.
func Run(ctx context.Context, o Options, rows []Row, log io.Writer) ([]Proof, error) {
	functions := make(map[string][]string)
	for _, r := range rows {
		for _, t := range r.Tests {
			if !slices.Contains(functions[t.Package], t.Function) {
				functions[t.Package] = append(functions[t.Package], t.Function)
			}
		}
	}
	names := make([]string, 0, len(functions))
	for name := range functions {
		names = append(names, name)
	}
	slices.Sort(names)
	outcomes := make(map[string]map[string]outcome)
	for _, name := range names {
		began := time.Now()
		found, err := runPackage(ctx, o, name, functions[name], log)
		if err != nil {
			return nil, fmt.Errorf("run the tests of %s: %w", name, err)
		}
		outcomes[name] = found
		if o.Report != nil {
			o.Report(name, time.Since(began))
		}
	}
	proofs := make([]Proof, len(rows))
	for i, r := range rows {
		proofs[i] = prove(r, outcomes)
	}
	return proofs, nil
}

func runPackage(ctx context.Context, o Options, name string, functions []string, log io.Writer) (map[string]outcome, error) {
	p, err := o.Packages(name)
	if err != nil {
		return nil, err
	}
	args := append([]string{"test", "-json", "-count=1", "-run", "^(" + strings.Join(functions, "|") + ")$"}, p.Args...)
	cmd := exec.CommandContext(ctx, o.Go, append(args, p.Path)...) //nolint:gosec // the go command, and names of tests
	cmd.Dir = o.Dir
	var failure bytes.Buffer
	cmd.Stderr = &failure
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("read what the tests say: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the go command: %w", err)
	}
	found, readErr := readEvents(stdout, log)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return nil, readErr
	case errors.As(err, &exit) && ctx.Err() == nil:
		_, _ = failure.WriteTo(log)
	case err != nil:
		return nil, fmt.Errorf("run the go command: %w", err)
	}
	return found, nil
}

// event is a line of go test -json.
type event struct {
	Action  string  `json:"Action"`
	Test    string  `json:"Test"`
	Output  string  `json:"Output"`
	Elapsed float64 `json:"Elapsed"`
}

// maxEvent bounds a line of go test -json.
const maxEvent = 16 << 20

// readEvents collects what became of each test, and writes the output of those that failed to log.
func readEvents(r io.Reader, log io.Writer) (map[string]outcome, error) {
	found := make(map[string]outcome)
	output := make(map[string][]string)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxEvent)
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			_, _ = fmt.Fprintln(log, scanner.Text()) // of the compiler
			continue
		}
		switch e.Action {
		case "output", "build-output":
			output[e.Test] = append(output[e.Test], e.Output)
		case "pass", "fail", "skip":
			if e.Test != "" {
				found[e.Test] = outcome{e.Action, e.Elapsed}
			}
			if e.Action == "fail" {
				for _, line := range output[e.Test] {
					_, _ = io.WriteString(log, line)
				}
			}
			delete(output, e.Test)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read what the tests say: %w", err)
	}
	return found, nil
}

// prove says what became of a row's tests.
func prove(r Row, outcomes map[string]map[string]outcome) Proof {
	p := Proof{Number: r.Number, Fault: r.Fault, Kept: r.Kept, Passed: true, Tests: make([]Result, 0, len(r.Tests))}
	for _, t := range r.Tests {
		result := Result{Test: t.String(), Result: "missing"}
		for name, o := range outcomes[t.Package] {
			path := strings.Split(name, "/")
			if path[0] != t.Function {
				continue
			}
			below := path[1:]
			meant := t.Matches(below)
			if t.Subtest == "" { // that of parallel subtests is not counted as that of their test
				result.Seconds = max(result.Seconds, o.Seconds)
			}
			if t.Subtest == "" {
				// A skip or failure of any subtest is one of the whole.
				meant = meant || o.Action != "pass"
			}
			if !meant {
				continue
			}
			if len(below) <= depth(t) {
				result.Count++
				if t.Subtest != "" {
					result.Seconds += o.Seconds
				}
			}
			result.Result = worse(result.Result, o.Action)
		}
		if result.Result != "pass" {
			p.Passed = false
		}
		p.Tests = append(p.Tests, result)
	}
	return p
}

// depth is how far below its function a test of the table stands.
func depth(t Test) int {
	if t.Subtest == "" {
		return 0
	}
	return 1
}

// worse is the worse of two results.
func worse(a, b string) string {
	order := []string{"missing", "pass", "skip", "fail"}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
