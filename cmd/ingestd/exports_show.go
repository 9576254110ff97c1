package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/ops"
	"ingestd/internal/store"
)

func newExportsShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show EXPORT", Short: "Show one export: where it stands, its ledger by type, and why it failed", Args: oneArg,
		Example: `  ingestd exports show 17
  ingestd exports show 17 --output json`,
	}
	flags := addControlFlags(cmd)
	output := addOutput(cmd, formatText, formatJSON)
	cmd.ValidArgsFunction = completeExports(flags)
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
			if output.value == formatJSON {
				return printJSON(cmd.OutOrStdout(), x)
			}
			return printExport(cmd.OutOrStdout(), x)
		})
	}
	return cmd
}

func printExport(out io.Writer, x ops.ExportDetail) error {
	var b strings.Builder
	p := x.Progress
	stands := describeProgress(p)
	if x.Waiting == ops.WaitingForBlackout {
		stands = "waiting: the payer is asked for nothing now (not_between)"
	}
	fmt.Fprintf(&b, "export %d of %s: %s, %s\n", x.ExportID, printable(x.Payer), x.Kind, stands)
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-11s  %s\n", what, printable(text))
		}
	}
	at := func(what string, t *time.Time) {
		if t != nil {
			line(what, t.UTC().Format(time.RFC3339))
		}
	}
	line("trigger", string(x.Trigger))
	at("started", &x.StartedAt)
	at("accepted", x.AcceptedAt)
	at("manifest", x.ManifestAt)
	at("loaded", x.LoadedAt)
	at("finished", x.FinishedAt)
	line("_since", x.Since)
	line("data as of", x.TransactionTime)
	if x.StalledSince != nil {
		line("stalled", "since "+x.StalledSince.UTC().Format(time.RFC3339)+": it takes far longer than other exports of this payer did")
	}
	line("files", fmt.Sprintf("%d (%d loaded)", p.Files, p.FilesLoaded))
	line("lines", fmt.Sprintf("%d (%d quarantined)", p.Lines, p.Quarantined))
	line("bytes", fmt.Sprintf("%s (%s as transferred)", byteCount(p.Bytes), byteCount(p.WireBytes)))
	if p.Unproven > 0 {
		line("unproven", count(p.Unproven, "file")+" came without length, compression, count or checksum: nothing proves that they were whole")
	}
	if a := x.Attachments; a != (store.Attachments{}) {
		line("attachments", fmt.Sprintf("%d (%s), %d to fetch, %d could not be fetched: ingest.attachment says why", a.Fetched,
			byteCount(a.Bytes), a.Pending, a.Failed))
	}
	failed := func(what, when string, e *ops.ErrorSummary) {
		line(what, when+e.Code+": "+e.Message)
		line("what to do", e.Hint)
		line("more", moreAbout(e.Code))
	}
	if e := x.LastError; e != nil {
		failed("error", "", e)
	}
	if e := x.Retrying; e != nil {
		failed("tries again", "failed "+e.At.Format(time.RFC3339)+": ", e)
	}
	if len(x.Types) > 0 {
		b.WriteString("\n")
		t := newTable("TYPE", ">FILES", ">LINES", ">INSERTED", ">UPDATED", ">UNCHANGED", ">SUPERSEDED", ">DELETED", ">GHOSTS")
		for _, l := range x.Types {
			t.row(l.ResourceType, l.Files, l.Lines, l.Inserted, l.Updated, l.Unchanged, l.Superseded, l.Deleted, l.Ghosts)
		}
		t.write(&b, "  ")
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print export %d: %w", x.ExportID, err)
	}
	return nil
}
