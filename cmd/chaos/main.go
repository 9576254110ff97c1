// Command chaos lets ingestd live through bad luck and proves that nothing came of it: see package chaos. `make chaos` runs it,
// and `make soak` runs its subcommand soak.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ingestd/internal/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "soak" {
		return soak(ctx, args[1:])
	}
	o := chaos.Options{Out: os.Stdout}
	flags := flag.NewFlagSet("chaos", flag.ExitOnError)
	flags.StringVar(&o.Ingestd, "ingestd", "build/ingestd", "the binary")
	flags.DurationVar(&o.Duration, "duration", 3*time.Minute, "for how long there is trouble, of each seed")
	seed := flags.Uint64("seed", 0, "what decides what happens; 0 takes one from the clock")
	seeds := flags.Uint64("seeds", 1, "how many seeds to run, one after the other")
	flags.BoolVar(&o.Verbose, "v", false, "tell of each trouble")
	out := flags.String("out", "build/chaos.json", "where the verdicts go")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	if *seed == 0 {
		*seed = uint64(time.Now().Unix())
	}
	var verdicts []chaos.Verdict
	var failed []uint64
	for n := range *seeds {
		o.Seed = *seed + n
		v, dir, err := within(o, func(o chaos.Options) (chaos.Verdict, error) { return chaos.Run(ctx, o) })
		if err != nil {
			return fmt.Errorf("seed %d: %w; the logs are in %s", o.Seed, err, dir)
		}
		if err := v.Print(os.Stdout); err != nil {
			return err
		}
		verdicts = append(verdicts, v)
		if len(v.Wrong) > 0 {
			failed = append(failed, o.Seed)
			fmt.Fprintf(os.Stdout, "the logs and the database are in %s\n", dir)
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clear up: %w", err)
		}
	}
	if err := write(*out, verdicts); err != nil {
		return err
	}
	if len(failed) > 0 {
		return errors.New("something is wrong with seeds " + fmt.Sprint(failed))
	}
	fmt.Fprintln(os.Stdout, "nothing lost, nothing doubled, nothing leaked")
	return nil
}

// within does something in a new directory, which it names.
func within[R any](o chaos.Options, do func(chaos.Options) (R, error)) (result R, dir string, err error) {
	if dir, err = os.MkdirTemp("", "ingestd-chaos-"); err != nil {
		return result, "", fmt.Errorf("make a directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // Postgres runs as another user, and holds generated data
		return result, dir, fmt.Errorf("open the directory to Postgres: %w", err)
	}
	o.Dir = dir
	result, err = do(o)
	return result, dir, err
}

// write writes what was found out as JSON.
func write(path string, found any) error {
	text, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // build output
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // build output
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
