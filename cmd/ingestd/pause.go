package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/scheduler"
)

func newPauseCommand() *cobra.Command {
	return newRestCommand("pause", "Let the schedules of a payer rest, on all instances; what runs goes on",
		func(ctx context.Context, e *scheduler.Engine, payers []string) (string, error) {
			if err := e.Pause(ctx, payers, operator()); err != nil {
				return "", err
			}
			return "paused " + strings.Join(payers, ", "), nil
		})
}

func newResumeCommand() *cobra.Command {
	return newRestCommand("resume", "Let the schedules of a paused payer go on; what was missed is made up once",
		func(ctx context.Context, e *scheduler.Engine, payers []string) (string, error) {
			resumed, err := e.Resume(ctx, payers)
			if err != nil || len(resumed) == 0 {
				return "nothing was paused", err
			}
			slices.Sort(resumed)
			return "resumed " + strings.Join(resumed, ", "), nil
		})
}

// newRestCommand makes a command that acts on the schedules of one payer, or of all.
func newRestCommand(name, short string, act func(context.Context, *scheduler.Engine, []string) (string, error)) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: name + " (PAYER | --all)", Short: short}
	path := addConfigFlag(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all payers of the configuration")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if all != (len(args) == 0) || len(args) > 1 {
			return usageError{fmt.Errorf("%s: expected the name of one payer, or --all\nUsage: %s", cmd.CommandPath(), cmd.UseLine())}
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withDatabase(cmd, *path, func(c *config.Config, d *daemon.Database) error {
			var payers []string
			for _, p := range c.Payers {
				if all || p.Name == args[0] {
					payers = append(payers, p.Name)
				}
			}
			if len(payers) == 0 && all {
				return usageError{errors.New("the configuration has no payer")}
			}
			if len(payers) == 0 {
				return usageError{fmt.Errorf("the configuration has no payer %q", args[0])}
			}
			engine, err := scheduler.New(scheduler.Options{Store: d.Store})
			if err != nil {
				return err
			}
			done, err := act(cmd.Context(), engine, payers)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), done)
			return nil
		})
	}
	return cmd
}
