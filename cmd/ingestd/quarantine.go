package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"ingestd/internal/fhir"
	"ingestd/internal/store"
)

func newQuarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "List the lines that could not be loaded, show one, or load them again",
	}
	cmd.AddCommand(newQuarantineListCommand(), newQuarantineShowCommand(), newQuarantineRetryCommand())
	return cmd
}

func newQuarantineListCommand() *cobra.Command {
	var filter store.QuarantineFilter
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List quarantined lines: where they stand, and why", Args: cobra.NoArgs,
		Long: `List quarantined lines: where they stand in which file of which export, and why they could not be loaded.

What a line holds is not shown: that is 'ingestd quarantine show'.`,
	}
	by := addControlFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&filter.Payer, "payer", "", "only those of this `payer`")
	flags.Int64Var(&filter.ExportID, "export", 0, "only those of the `export` of this number")
	flags.StringVar(&filter.Reason, "reason", "", "only those with this `reason`")
	flags.BoolVar(&filter.Loaded, "loaded", false, "those too that 'ingestd quarantine retry' has loaded since")
	flags.IntVar(&limit, "limit", 50, "how many at most")
	output := addListOutput(cmd)
	completePayerFlag(cmd, by.config)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkLimit(limit); err != nil {
			return err
		}
		return withControl(cmd, by, func(c control) error {
			lines, err := c.Quarantine(cmd.Context(), filter, limit)
			if err != nil {
				return err
			}
			return printList(cmd.OutOrStdout(), output, lines, func() *table {
				t := newTable(">NUMBER", ">EXPORT", "PAYER", ">FILE", ">LINE", "TYPE", ">SIZE", "REASON", "DETAIL")
				for _, q := range lines {
					t.row(q.ID, q.ExportID, q.Payer, q.File, q.Line, q.ResourceType, byteCount(q.Bytes), q.Reason, q.Detail)
				}
				return t
			})
		})
	}
	return cmd
}

func newQuarantineShowCommand() *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use: "show NUMBER", Short: "Show a quarantined line as the payer sent it (it holds PHI)", Args: oneArg,
	}
	flags := addControlFlags(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "print the bytes of the line and nothing else; to a file, not to a terminal")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || id <= 0 {
			return usageError{fmt.Errorf("%q: expected the number of a line, as 'ingestd quarantine list' shows it", args[0])}
		}
		return withControl(cmd, flags, func(c control) error {
			q, err := c.QuarantinedRaw(cmd.Context(), id, operator())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if raw {
				_, err = out.Write(q.Raw)
				return err
			}
			fmt.Fprintf(out, "export %d of %s, file %d, line %d, to byte %d\n%s: %s\n", q.ExportID, printable(q.Payer), q.File, q.Line,
				q.ByteOffset, printable(q.Reason), printable(q.Detail))
			if int64(len(q.Raw)) < q.Bytes {
				fmt.Fprintf(out, "the line has %d bytes, of which %d were kept\n", q.Bytes, len(q.Raw))
			}
			// The payer's bytes could move the cursor or worse: they are made harmless.
			_, err = fmt.Fprintf(out, "\n%s\n", fhir.Printable(string(q.Raw), len(q.Raw)+1))
			return err
		})
	}
	return cmd
}

func newQuarantineRetryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "retry EXPORT", Short: "Load an export's quarantined lines again, and publish those that can be loaded now", Args: oneArg,
		Long: `Load the quarantined lines of a published export again, under the configuration as it is now, and publish those that can be loaded: with
'load.repair_text: true' text that jsonb cannot hold is mended, and a newer version of ingestd may know more resource types. They
become visible at once; lines that cannot be loaded now either stay.

A line never replaces what a newer version or a later export brought. Behind a later full export, or one with deletions, the command
refuses: what the line holds may be gone at the payer by then, and 'ingestd run PAYER --full' brings what is not.`,
		Example: "  ingestd quarantine retry 42 --config /etc/ingestd/ingestd.yaml",
	}
	flags := addControlFlags(cmd)
	output := addOutput(cmd, formatText, formatJSON)
	cmd.ValidArgsFunction = completeExports(flags, string(store.StatePublished))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := exportNumber(args[0])
		if err != nil {
			return err
		}
		return withControl(cmd, flags, func(c control) error {
			x, err := c.Export(cmd.Context(), id)
			if err != nil {
				return err
			}
			r, err := c.RetryQuarantine(cmd.Context(), id, operator())
			if err != nil {
				return err
			}
			if output.value == formatJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "export %d of %s: %d lines tried: inserted %d, updated %d, superseded %d; %d cannot be loaded now either\n",
				id, printable(x.Payer), r.Lines, r.Inserted, r.Updated, r.Superseded, r.Refused)
			if r.Incomplete > 0 {
				fmt.Fprintf(out, "  %d lines are longer than what is kept of a line: they were not tried\n", r.Incomplete)
			}
			return nil
		})
	}
	return cmd
}
