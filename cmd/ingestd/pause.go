package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ingestd/internal/store"
)

func newPauseCommand() *cobra.Command {
	return newRestCommand("pause", &cobra.Command{
		Short: "Let the schedules of a payer rest, on all instances; what runs goes on",
		Long: `Lets the schedules of a payer rest, or of all payers of the configuration, on all instances, until 'ingestd resume'. An export that
runs goes on ('ingestd exports cancel' ends it), and 'ingestd run' still starts one by hand.`,
		Example: "  ingestd pause bluecross\n  ingestd pause --all",
	}, "paused", "it is paused already", control.Pause)
}

func newResumeCommand() *cobra.Command {
	return newRestCommand("resume", &cobra.Command{
		Short:   "Let the schedules of a paused payer go on; what was missed is made up once",
		Long:    "Lets the schedules of a paused payer go on, or of all. However many ticks have passed meanwhile, one export makes them up.",
		Example: "  ingestd resume bluecross\n  ingestd resume --all",
	}, "resumed", "nothing was paused", control.Resume)
}

// newRestCommand completes a command that acts on the schedules of one payer, or of all.
func newRestCommand(name string, cmd *cobra.Command, done, nothing string,
	act func(c control, ctx context.Context, payer string, by store.Actor) ([]string, error),
) *cobra.Command {
	var all bool
	cmd.Use = name + " (PAYER | --all)"
	flags := addControlFlags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all payers of the configuration")
	cmd.ValidArgsFunction = completePayers(flags.config)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if all != (len(args) == 0) || len(args) > 1 {
			return fmt.Errorf("%s: expected the name of one payer, or --all\nUsage: %s", cmd.CommandPath(), cmd.UseLine())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		payer := ""
		if !all {
			payer = args[0]
		}
		return withControl(cmd, flags, func(c control) error {
			payers, err := act(c, cmd.Context(), payer, operator())
			if err != nil {
				return err
			}
			if len(payers) == 0 {
				return printLine(cmd.OutOrStdout(), nothing)
			}
			slices.Sort(payers)
			return printLine(cmd.OutOrStdout(), done+" "+strings.Join(payers, ", "))
		})
	}
	return cmd
}
