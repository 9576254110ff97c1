// Command bench measures ingestd beside psql and a script: see package bench. `make bench` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"ingestd/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "payer" {
		return servePayer(ctx, args[1:])
	}
	var o bench.Options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	size := flags.Int64("size", 512, "MiB of NDJSON to load")
	flags.IntVar(&o.Rounds, "rounds", 5, "alternations")
	flags.IntVar(&o.Connections, "connections", 2, "files that are loaded, or copied, at once")
	flags.StringVar(&o.Ingestd, "ingestd", "build/ingestd", "the binary to measure")
	flags.BoolVar(&o.Rivals, "rivals", true, "measure curl, jq and psql too")
	scale := flags.Int64("scale", 128, "MiB of the smallest of three sizes, ×1, ×4 and ×16, that are loaded too; 0 for none")
	flags.IntVar(&o.Rows, "rows", 1_000_000, "small rows of one load")
	flags.IntVar(&o.LongLine, "long-line", 64<<20-1024, "bytes of the lines of another")
	plot := flags.String("plot", "build/bench.svg", "where the plot goes")
	out := flags.String("out", "build/bench.json", "where the figures go")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	o.Program, o.Size, o.ScaleUnit, o.Progress = program, *size<<20, *scale<<20, os.Stderr
	if o.Dir, err = os.MkdirTemp("", "ingestd-bench-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(o.Dir) }()
	if err := os.Chmod(o.Dir, 0o755); err != nil { //nolint:gosec // Postgres runs as another user, and holds generated data
		return fmt.Errorf("open the folder to Postgres: %w", err)
	}
	result, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	report := bench.NewReport(result)
	if err := report.Write(*out); err != nil {
		return err
	}
	report.Print(os.Stdout)
	if len(result.Scale) == 0 {
		return nil
	}
	file, err := os.Create(*plot)
	if err != nil {
		return fmt.Errorf("create the plot: %w", err)
	}
	return errors.Join(bench.Plot(file, result.Scale), file.Close())
}

func servePayer(ctx context.Context, args []string) error {
	var o bench.PayerOptions
	flags := flag.NewFlagSet("payer", flag.ExitOnError)
	flags.StringVar(&o.Base, "base", "", "folder of the data")
	flags.StringVar(&o.Changed, "changed", "", "folder of the data with changes")
	flags.StringVar(&o.JWKS, "jwks", "", "the client's public keys")
	flags.IntVar(&o.LinesPerFile, "lines-per-file", 0, "lines of an output file")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	return bench.ServePayer(ctx, o, os.Stdout)
}
