package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/ops"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

func newRunCommand() *cobra.Command {
	var full, detach bool
	var since string
	cmd := &cobra.Command{
		Use:   "run PAYER",
		Short: "Run one export: here and now until it is published, or on the fleet",
		Long: `Runs one export of a payer in this process, whatever its schedule says, and exits with 0 only after it is published.
not_between does not bind it; where as many exports run as fleet.max_exports lets, it waits for its turn.
Where an export of the payer is already running, this command follows that one instead, and goes on with it if the process
that worked on it is gone. Ctrl-C stops at the next checkpoint; the export can be gone on with by another run or a daemon.

With --detach, it leaves the work to the daemons: it prints the new export's number and ends. Where one is already running, it fails.`,
		Example: `  ingestd run bluecross --config ingestd.yaml
  ingestd run bluecross --full --output json
  ingestd run bluecross --detach`,
		Args: oneArg,
	}
	flags := addControlFlags(cmd)
	cmd.Flags().BoolVar(&full, "full", false, "ask for all data instead of what changed since the last export")
	cmd.Flags().StringVar(&since, "since", "", "ask for what changed since this `instant` (RFC 3339)")
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave it to the daemons, print its number and do not wait")
	output := addOutput(cmd, formatText, formatJSON)
	cmd.ValidArgsFunction = completePayers(flags.config)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options := scheduler.RunOptions{Full: full, By: operator()}
		if since != "" {
			var err error
			if options.Since, err = time.Parse(time.RFC3339Nano, since); err != nil {
				return usageError{fmt.Errorf("--since %q: expected an instant such as 2026-01-31T00:00:00Z", since)}
			}
			if options.Since.After(time.Now().Add(sinceTolerance)) {
				return usageError{fmt.Errorf("--since %q lies in the future: nothing can have changed since then", since)}
			}
			if full {
				return usageError{errors.New("--full and --since exclude each other")}
			}
		}
		if detach {
			return withControl(cmd, flags, func(c control) error { return enqueue(cmd, c, args[0], options, output) })
		}
		if *flags.server != "" {
			return usageError{errors.New("a run in the foreground works in this process, not on the server: add --detach, or leave --server out")}
		}
		c, err := loadConfig(*flags.config)
		if err != nil {
			return err
		}
		// A mistyped name must neither migrate a database nor start an engine.
		if !slices.ContainsFunc(c.Payers, func(p config.Payer) bool { return p.Name == args[0] }) {
			return explained(&scheduler.UnknownPayerError{Name: args[0]})
		}
		x, err := runForeground(cmd.Context(), c, args[0], options, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return printResult(cmd.OutOrStdout(), x, output.value)
	}
	return cmd
}

// sinceTolerance is how far ahead --since may be: the clocks of this host and of the payer differ.
const sinceTolerance = time.Hour

// enqueue starts an export on the fleet and prints its number.
func enqueue(cmd *cobra.Command, c control, payer string, o scheduler.RunOptions, output *format) error {
	id, err := c.Start(cmd.Context(), payer, o)
	if err != nil {
		return err
	}
	warnOfNoDaemon(cmd, c)
	if output.value == formatJSON {
		return printJSONLine(cmd.OutOrStdout(), map[string]int64{"export_id": id})
	}
	return printLine(cmd.OutOrStdout(), strconv.FormatInt(id, 10))
}

// oneArg is cobra.ExactArgs(1) with the usage.
func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: expected one argument, got %d\nUsage: %s", cmd.CommandPath(), len(args), cmd.UseLine())
	}
	return nil
}

// cleanUpPatience is how long a run waits for the payer to take its DELETE.
const cleanUpPatience = 10 * time.Second

func runForeground(ctx context.Context, c *config.Config, payer string, o scheduler.RunOptions, stderr io.Writer) (store.Export, error) {
	log := c.Log
	log.Level, log.Format = "warn", "text" // the progress says the rest
	display := newDisplay(stderr)
	defer display.close()
	d, err := daemon.Open(ctx, daemon.Options{
		Config: c, Logger: newLogger(display, log), Version: buildVersion(), Host: hostName(), Queue: "run_" + uuid.NewString(),
	})
	if err != nil {
		return store.Export{}, err
	}
	defer d.Close(ctx)

	// The engine ends when the export is over, or by a signal.
	engineCtx, stop := context.WithCancel(ctx)
	defer stop()
	group, engineCtx := errgroup.WithContext(engineCtx)
	group.Go(func() error { return d.Run(engineCtx) })
	var x store.Export
	group.Go(func() error {
		defer stop()
		noteBlackout(display, c, payer)
		id, err := d.Engine.Start(engineCtx, payer, o)
		if errors.Is(err, store.ErrExportRunning) {
			running, _, findErr := d.Engine.Running(engineCtx, payer)
			if findErr != nil {
				return findErr
			}
			id = running.ID
			display.note("export %d of %s is already running: following it", id, payer)
		} else if err != nil {
			return err
		}
		if x, err = d.Engine.Watch(engineCtx, id, func(p store.Progress) { display.show(payer, id, p) }); err != nil {
			return err
		}
		if !x.State.Active() && !d.Engine.WaitCleanedUp(engineCtx, id, cleanUpPatience) {
			display.note("the payer has not taken the DELETE of export %d yet", id)
		}
		return nil
	})
	err = group.Wait()
	if ctx.Err() != nil {
		return x, errors.New("stopped at a checkpoint: run it again, or let a daemon go on with it")
	}
	return x, err
}

// noteBlackout says that a run does not mind the time in which the payer's schedules rest.
func noteBlackout(d *display, c *config.Config, payer string) {
	for _, p := range c.Payers {
		if end := scheduler.Blackout(p, time.Now()); p.Name == payer && !end.IsZero() {
			d.note("%s is in its blackout, not_between %s (%s): a run by hand is not bound by it", payer, p.NotBetween, p.Timezone)
		}
	}
}

// printResult prints an export that is over; the error says why it was not published.
func printResult(out io.Writer, x store.Export, output string) error {
	summary := ops.Summarize(x, time.Now())
	if output == formatJSON {
		if err := printJSONLine(out, summary); err != nil {
			return err
		}
	} else if x.State == store.StatePublished {
		rate := float64(x.Bytes) / 1e6 / max(summary.Seconds, 0.001)
		fmt.Fprintf(out, "export %d of %s published: %d lines, %s in %s (%.1f MB/s)\n", x.ID, x.Payer, x.Lines,
			byteCount(x.Bytes), seconds(summary.Seconds), rate)
		fmt.Fprintf(out, "  inserted %d, updated %d, unchanged %d, superseded %d, deleted %d, ghosts %d, quarantined %d\n",
			x.Inserted, x.Updated, x.Unchanged, x.Superseded, x.Deleted, x.Ghosts, x.Quarantined)
	}
	if x.State == store.StatePublished {
		return nil
	}
	became := "is " + string(x.State)
	if x.State == store.StateFailed {
		became = "failed"
	}
	err := fmt.Errorf("export %d of %s %s: %s: %s", x.ID, x.Payer, became, x.ErrorCode, printable(x.Error))
	if hint := cmp.Or(x.Hint, moreAbout(x.ErrorCode)); hint != "" {
		err = fmt.Errorf("%w\n  what to do: %s", err, hint)
	}
	return err
}
