package main

import (
	"os"

	"github.com/spf13/cobra"

	"ingestd/internal/demo"
)

func newDemoCommand() *cobra.Command {
	var options demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show ingestd at work: a private Postgres, three simulated payers, two rounds, every row verified",
		Long: `Starts a private Postgres, three simulated payers that differ and the daemon on a short schedule, shows two rounds of
exports and compares every row with what the payers hold. It needs Postgres' server programs and nothing else, takes about
a minute, and says how to look at the data afterwards.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&options.Keep, "keep", false, "leave it running afterwards, until Ctrl-C")
	cmd.Flags().StringVar(&options.Dir, "dir", "", "where everything goes (default: a new temporary directory)")
	cmd.Flags().IntVar(&options.Patients, "patients", 0, "patients of each payer (default 400)")
	cmd.Flags().DurationVar(&options.Interval, "interval", 0, "the schedule: an export of each payer every so often (default 20s)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		display := newDisplay(cmd.OutOrStdout())
		defer display.close()
		options.Out, options.Show, options.ShowEnd = display, display.show, display.close
		options.Version, options.Program = buildVersion(), os.Args[0]
		return demo.Run(cmd.Context(), options)
	}
	return cmd
}
