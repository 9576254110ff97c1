package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"
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
	path := addConfigFlag(cmd)
	output := addOutput(cmd, formatText, formatJSON)
	cmd.Flags().BoolVar(&yes, "yes", false, "really remove it; without, only say whether there is something")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		payer := args[0]
		return withDatabase(cmd, *path, func(c *config.Config, d *daemon.Database) error {
			if slices.ContainsFunc(c.Payers, func(p config.Payer) bool { return p.Name == payer }) {
				return usageError{fmt.Errorf("payer %s is in the configuration: take it out first, and let the daemons know", payer)}
			}
			if err := d.Prepare(cmd.Context(), false); err != nil {
				return err
			}
			known, err := d.Store.HasPayer(cmd.Context(), payer)
			if err != nil {
				return err
			}
			if !known {
				return fmt.Errorf("nothing is stored of a payer %q", payer)
			}
			if !yes {
				return usageError{fmt.Errorf("this would remove all that is stored of payer %s: say --yes if you mean it", payer)}
			}
			removed, err := d.Store.RemovePayer(cmd.Context(), payer, operator())
			if errors.Is(err, store.ErrExportRunning) {
				return fmt.Errorf("an export of %s is not over, or not cleaned up: see 'ingestd exports list --payer %s', and cancel it", payer, payer)
			}
			if err != nil {
				return err
			}
			if output.value == formatJSON {
				return printJSON(cmd.OutOrStdout(), removed)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed payer %s: %s (about %d resources), %d earlier versions, %d attachments, %s\n", payer,
				count(removed.Tables, "table"), removed.Rows, removed.History, removed.Attached, count(int(removed.Exports), "export"))
			return err
		})
	}
	return cmd
}
