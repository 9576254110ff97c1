// Command release checks and describes what a release of ingestd is made of. It has a module of its own, without dependencies.
//
//	release licences REPOSITORY       says under which licence each module of the product stands; fails on one that is not allowed
//	release sbom REPOSITORY BINARY    writes a bill of materials of a binary, in CycloneDX, to stdout
//
// The time in a bill of materials is SOURCE_DATE_EPOCH: the same binary gives the same bytes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "licences":
		return checkLicences(ctx, args[1], out)
	case len(args) == 3 && args[0] == "sbom":
		return writeSBOM(ctx, args[1], args[2], out)
	}
	return errors.New("expected licences REPOSITORY, or sbom REPOSITORY BINARY")
}

// module is one that packages of the product come from.
type module struct {
	Path, Version, Dir string
}

// modulesOf lists the modules of which packages are linked into the product, in order.
func modulesOf(ctx context.Context, repository string) ([]module, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/ingestd")
	cmd.Dir, cmd.Stderr = repository, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false")
	listed, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the modules: %w", err)
	}
	known := make(map[string]bool)
	var modules []module
	for line := range strings.Lines(string(listed)) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(parts) != 3 {
			return nil, fmt.Errorf("go list printed %q", line)
		}
		m := module{parts[0], parts[1], parts[2]}
		if !known[m.Path] {
			known[m.Path] = true
			modules = append(modules, m)
		}
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return modules, nil
}
