// Command mutation breaks the lines of ingestd that keep data whole and credentials in their place, one after the other, and
// demands that a test fails for each: a line that can be broken unnoticed is guarded by nothing. The broken file is laid over
// the real one (go help build, -overlay), so that nothing in the repository changes.
//
//	mutation [-run PATTERN] [-root DIR]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// mutant is a line, how it is broken, and where the tests are that have to notice.
type mutant struct {
	name     string
	file     string
	old, new string
	pkg      string // the package whose tests are run
	run      string // the tests, as for go test -run
}

// patience bounds one run of tests; a mutant that makes them hang has been noticed.
const patience = "4m"

func main() {
	run := flag.String("run", ".", "only the mutants whose names match")
	root := flag.String("root", "../..", "the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pattern, err := regexp.Compile(*run)
	if err == nil {
		err = breakAll(ctx, *root, pattern)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(1)
	}
}

func breakAll(ctx context.Context, root string, pattern *regexp.Regexp) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	survivors := 0
	for _, m := range mutants {
		if !pattern.MatchString(m.name) {
			continue
		}
		began := time.Now()
		killer, err := m.test(ctx, root)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", m.name, err)
		case killer == "":
			survivors++
			killer = "SURVIVED"
		}
		fmt.Printf("%-44s %-34s %4ds  %s\n", m.name, m.file, int(time.Since(began).Seconds()), killer)
	}
	if survivors > 0 {
		return fmt.Errorf("%d mutants survived: write the tests that notice them", survivors)
	}
	return nil
}

// broken returns the file with the line broken.
func (m mutant) broken(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(data), m.old); n != 1 {
		return "", fmt.Errorf("%s holds %q %d times, want once: bring the list up to date", m.file, m.old, n)
	}
	return strings.Replace(string(data), m.old, m.new, 1), nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// test runs the tests over the broken file. It returns what noticed, empty where nothing did, and an error where the tests
// could not be run.
func (m mutant) test(ctx context.Context, root string) (string, error) {
	text, err := m.broken(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	plan, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): file}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(overlay, plan, 0o600)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout", patience, "-run", m.run, "./"+m.pkg)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil && strings.Contains(string(out), "no tests to run"):
		return "", fmt.Errorf("no test of %s matches %s", m.pkg, m.run)
	case err == nil:
		return "", nil
	case !errors.As(err, &ended), strings.Contains(string(out), "[build failed]"), strings.Contains(string(out), "[setup failed]"):
		return "", fmt.Errorf("the tests cannot be built: %w\n%s", err, out)
	}
	if match := failed.FindStringSubmatch(string(out)); match != nil {
		return match[1], nil
	}
	if strings.Contains(string(out), "panic: ") {
		return "a panic, or the time-out", nil
	}
	return "", fmt.Errorf("the tests failed without saying which: %w\n%s", err, out)
}
