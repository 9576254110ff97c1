// Command mutation breaks the lines of ingestd that keep data whole and credentials in their place, one after the other, and
// demands that a test fails for each: a line that can be broken unnoticed is guarded by nothing. The broken file is laid over
// the real one (go help build, -overlay), so that nothing in the repository changes. First, all of these tests have to pass with nothing broken:
// a test that fails anyway notices nothing.
//
//	mutation [-run PATTERN] [-root DIR]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
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

// A mutant that makes tests hang has been noticed, after so many times as long as all tests of the package take with nothing broken, and
// no sooner than leastPatience.
const (
	patience      = 5
	leastPatience = time.Minute
)

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
	chosen := slices.DeleteFunc(slices.Clone(mutants), func(m mutant) bool { return !pattern.MatchString(m.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant is named %s", pattern)
	}
	took, err := passUnbroken(ctx, root, chosen)
	if err != nil {
		return err
	}
	var wrong []error
	for _, m := range chosen {
		began := time.Now()
		killer, err := m.test(ctx, root, max(leastPatience, patience*took[m.pkg]))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s: %w", m.name, err))
			killer = "not tested"
		case killer == "":
			wrong = append(wrong, fmt.Errorf("%s survived: write the test that notices it", m.name))
			killer = "SURVIVED"
		}
		fmt.Printf("%-44s %-34s %4ds  %s\n", m.name, m.file, int(time.Since(began).Seconds()), killer)
	}
	return errors.Join(wrong...)
}

// passUnbroken runs the tests of the mutants with nothing broken. It returns how long those of each package took.
func passUnbroken(ctx context.Context, root string, chosen []mutant) (map[string]time.Duration, error) {
	patterns := make(map[string][]string)
	for _, m := range chosen {
		patterns[m.pkg] = append(patterns[m.pkg], m.run)
	}
	took := make(map[string]time.Duration)
	for _, pkg := range slices.Sorted(maps.Keys(patterns)) {
		began := time.Now()
		out, err := goTest(ctx, root, "-timeout", "10m", "-run", strings.Join(patterns[pkg], "|"), "./"+pkg)
		if err != nil {
			return nil, fmt.Errorf("the tests of %s fail with nothing broken: %w\n%s", pkg, err, out)
		}
		took[pkg] = time.Since(began)
		fmt.Printf("%-44s %-34s %4ds  pass\n", "nothing broken", pkg, int(took[pkg].Seconds()))
	}
	return took, nil
}

// goTest runs tests anew, and returns what they print.
func goTest(ctx context.Context, root string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-vet=off", "-count=1"}, args...)...)
	cmd.Dir = root
	return cmd.CombinedOutput()
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
func (m mutant) test(ctx context.Context, root string, timeout time.Duration) (string, error) {
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
	out, err := goTest(ctx, root, "-overlay", overlay, "-timeout", timeout.String(), "-run", m.run, "./"+m.pkg)
	var ended *exec.ExitError
	switch {
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
