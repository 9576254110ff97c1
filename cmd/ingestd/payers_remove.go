package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newPayersRemoveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove PAYER", Short: "Remove all that is stored of a payer", Args: oneArg,
		Long: `Removes all that is stored of a payer, in one transaction: its resources and their earlier versions, attachments, exports with
their quarantine, watermarks. Nothing of it can be got back but by a new export.

The payer must have left the configuration, so that no schedule brings it back, and its exports must be over. Readers of the
tables are not kept waiting.`,
		Example: "  ingestd payers remove bluecross --yes --config /etc/ingestd/ingestd.yaml",
	}
	flags := addControlFlags(cmd)
	output := addOutput(cmd, formatText, formatJSON)
	cmd.Flags().BoolVar(&yes, "yes", false, "really remove it; without, only say whether there is something")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		payer := args[0]
		return withControl(cmd, flags, func(c control) error {
			removed, err := c.RemovePayer(cmd.Context(), payer, yes, operator())
			if err != nil {
				return err
			}
			if output.value == formatJSON {
				return printJSON(cmd.OutOrStdout(), removed)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed payer %s: %s (about %d resources), %d earlier versions, %d attachments, %s\n", printable(payer),
				count(removed.Tables, "table"), removed.Rows, removed.History, removed.Attached, count(int(removed.Exports), "export"))
			return err
		})
	}
	return cmd
}
