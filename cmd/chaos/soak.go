package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"ingestd/internal/chaos"
)

// soak lets ingestd work for long and in peace, and fails where what it holds rises.
func soak(ctx context.Context, args []string) error {
	o := chaos.Options{Out: os.Stdout, Seed: 1}
	flags := flag.NewFlagSet("chaos soak", flag.ExitOnError)
	flags.StringVar(&o.Ingestd, "ingestd", "build/ingestd", "the binary")
	flags.DurationVar(&o.Duration, "duration", 30*time.Minute, "for how long")
	out := flags.String("out", "build/soak.json", "where the figures go")
	plot := flags.String("plot", "build/soak.svg", "where the plot goes")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	e, dir, err := within(o, func(o chaos.Options) (chaos.Endurance, error) { return chaos.Soak(ctx, o) })
	if err != nil {
		return fmt.Errorf("%w; the logs are in %s", err, dir)
	}
	if err := e.Print(os.Stdout); err != nil {
		return err
	}
	if err := write(*out, e); err != nil {
		return err
	}
	file, err := os.Create(*plot)
	if err != nil {
		return fmt.Errorf("create the plot: %w", err)
	}
	if err := errors.Join(chaos.Plot(file, o.Duration, e.Series), file.Close()); err != nil {
		return err
	}
	if len(e.Wrong) > 0 || len(e.Rising()) > 0 {
		return errors.New("something is wrong or rises; the logs are in " + dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear up: %w", err)
	}
	fmt.Fprintln(os.Stdout, "flat, and everything equal")
	return nil
}
