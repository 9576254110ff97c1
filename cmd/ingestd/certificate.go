package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/store"
)

func newExportsCertificateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "certificate EXPORT", Short: "Print the balanced ledger of an export: for an audit, or a dispute with a payer", Args: oneArg,
		Long: `Prints what an export asked for, which files came, with their counts and checksums, and what became of each line. It holds no
URL, no id of a resource and nothing that the payer said, and ends with a digest over all of it: two prints of one published export
have the same.

lines_sha256 is the SHA-256 over the SHA-256 of each line of a file, without line ends and blank lines.`,
		Example: "  ingestd exports certificate 17 --output json > export-17.json",
	}
	flags := addControlFlags(cmd)
	cmd.ValidArgsFunction = completeExports(flags, string(store.StatePublished))
	output := addOutput(cmd, formatText, formatJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := exportNumber(args[0])
		if err != nil {
			return err
		}
		return withControl(cmd, flags, func(c control) error {
			certificate, err := c.Certificate(cmd.Context(), id)
			if err != nil {
				return err
			}
			if output.value == formatJSON {
				return printJSON(cmd.OutOrStdout(), certificate)
			}
			return printCertificate(cmd.OutOrStdout(), certificate)
		})
	}
	return cmd
}

func printCertificate(out io.Writer, c store.Certificate) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	types := "all types"
	if len(c.Types) > 0 {
		types = strings.Join(c.Types, ", ")
	}
	fmt.Fprintf(w, "export\t%d of %s, %s, %s\n", c.ExportID, c.Payer, c.Kind, c.State)
	fmt.Fprintf(w, "asked for\t%s%s\n", types, sinceText(c.Since))
	fmt.Fprintf(w, "configuration\t%s\n", c.Series)
	for _, line := range []struct {
		what string
		at   *time.Time
	}{{"kicked off", c.KickedOffAt}, {"manifest", c.ManifestAt}, {"loaded", c.LoadedAt}, {"finished", c.FinishedAt}} {
		if line.at != nil {
			fmt.Fprintf(w, "%s\t%s\n", line.what, line.at.Format(time.RFC3339))
		}
	}
	fmt.Fprintf(w, "transaction time\t%s\n\n", orDash(printable(c.TransactionTime)))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the certificate: %w", err)
	}
	t := newTable(">FILE", "KIND", "TYPE", ">LINES", ">MANIFEST", ">BYTES", ">TRANSFERRED", "PROVEN WHOLE", "LINES SHA-256")
	for _, f := range c.Files {
		manifest := "-"
		if f.ExpectedCount != nil {
			manifest = strconv.FormatInt(*f.ExpectedCount, 10)
		}
		t.row(f.Ordinal, f.Kind, f.ResourceType, f.Lines, manifest, f.Bytes, f.WireBytes, f.Whole, f.LinesHash)
	}
	if err := t.print(out); err != nil {
		return err
	}
	l := c.Ledger
	verdict := "balanced"
	if !l.Balanced {
		verdict = "NOT BALANCED"
	}
	_, err := fmt.Fprintf(out, "\n%d lines = %d inserted + %d updated + %d unchanged + %d superseded + %d quarantined + %d outcomes + %d headers: %s\n"+
		"%d lines repaired, %d rows deleted, %d ghosts removed\n\nSHA-256 of this certificate as JSON without its digest: %s\n",
		l.Lines, l.Inserted, l.Updated, l.Unchanged, l.Superseded, l.Quarantined, l.Outcomes, l.Headers, verdict, l.Repaired, l.Deleted, l.Ghosts, c.Digest)
	if err != nil {
		return fmt.Errorf("print the certificate: %w", err)
	}
	return nil
}

func sinceText(since string) string {
	if since == "" {
		return ", in full"
	}
	return ", since " + since
}
