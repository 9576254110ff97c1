package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/ops"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

func newExportsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exports",
		Short: "List exports, show one, cancel it, or decide on one that is held back",
	}
	cmd.AddCommand(
		newExportsListCommand(),
		newExportsShowCommand(),
		newExportsCertificateCommand(),
		newDecisionCommand("cancel", "End an export that is not finished, here and at the payer", "canceled", (*scheduler.Engine).Cancel),
		newDecisionCommand("release", "Publish a held export as it is, whatever it removes", "released", (*scheduler.Engine).Release),
		newDecisionCommand("reject", "End a held export without publishing it", "rejected", (*scheduler.Engine).Reject),
	)
	return cmd
}

func newExportsListCommand() *cobra.Command {
	var payer, output string
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List the newest exports", Args: cobra.NoArgs}
	path := addConfigFlag(cmd)
	cmd.Flags().StringVar(&payer, "payer", "", "only those of this payer")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many")
	cmd.Flags().StringVar(&output, "output", "table", "form of the output: table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			exports, err := d.Store.Exports(cmd.Context(), payer, limit)
			if err != nil {
				return err
			}
			now := time.Now()
			if output == "json" {
				summaries := make([]ops.ExportSummary, 0, len(exports))
				for _, x := range exports {
					summaries = append(summaries, ops.Summarize(x, now))
				}
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(summaries)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "EXPORT\tPAYER\tKIND\tSTATE\tSTARTED\tTOOK\tLINES\tBYTES\tCHANGED\tERROR")
			for _, x := range exports {
				summary := ops.Summarize(x, now)
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t+%d ~%d -%d\t%s\n", x.ID, x.Payer, x.Kind, x.State,
					x.CreatedAt.UTC().Format(time.RFC3339), shortDuration(time.Duration(summary.Seconds*float64(time.Second))),
					x.Lines, byteCount(x.Bytes), x.Inserted, x.Updated, x.Deleted+x.Ghosts, x.ErrorCode)
			}
			return w.Flush()
		})
	}
	return cmd
}

func newExportsShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show EXPORT", Short: "Show one export: where it stands, its ledger by type, and why it failed", Args: oneArg,
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := exportNumber(args[0])
		if err != nil {
			return err
		}
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			x, err := d.Store.Export(cmd.Context(), id)
			if err != nil {
				return noExport(id, err)
			}
			progress, err := d.Store.Progress(cmd.Context(), id)
			if err != nil {
				return err
			}
			types, err := d.Store.TypeLedgers(cmd.Context(), id)
			if err != nil {
				return err
			}
			attachments, err := d.Store.Attachments(cmd.Context(), id)
			if err != nil {
				return err
			}
			return printExport(cmd.OutOrStdout(), x, progress, attachments, types)
		})
	}
	return cmd
}

func printExport(out io.Writer, x store.Export, p store.Progress, a store.Attachments, types []store.TypeLedger) error {
	fmt.Fprintf(out, "export %d of %s: %s, %s\n", x.ID, x.Payer, x.Kind, describeProgress(p))
	for _, line := range []struct {
		what string
		at   time.Time
	}{
		{"started", x.CreatedAt}, {"accepted", x.KickedOffAt}, {"manifest", x.ManifestAt}, {"loaded", x.LoadedAt}, {"finished", x.FinishedAt},
	} {
		if !line.at.IsZero() {
			fmt.Fprintf(out, "  %-9s %s\n", line.what, line.at.UTC().Format(time.RFC3339))
		}
	}
	if x.Since != "" {
		fmt.Fprintf(out, "  _since    %s\n", x.Since)
	}
	if x.TransactionTime != "" {
		fmt.Fprintf(out, "  data as of %s\n", printable(x.TransactionTime))
	}
	if x.State == store.StatePolling && !x.StalledAt.IsZero() {
		fmt.Fprintf(out, "  stalled   since %s: it takes far longer than other exports of this payer did\n", x.StalledAt.UTC().Format(time.RFC3339))
	}
	if x.ErrorCode != "" {
		fmt.Fprintf(out, "  %s: %s\n", x.ErrorCode, printable(x.Error))
		if x.Hint != "" {
			fmt.Fprintf(out, "  what to do: %s\n", x.Hint)
		}
	}
	fmt.Fprintf(out, "  files %d (%d loaded), lines %d, %s (%s as transferred), quarantined %d\n\n", p.Files, p.FilesLoaded, p.Lines,
		byteCount(p.Bytes), byteCount(p.WireBytes), p.Quarantined)
	if p.Unproven > 0 {
		fmt.Fprintf(out, "  %d file(s) came without length, compression, count or checksum: nothing proves that they were whole\n\n", p.Unproven)
	}
	if a != (store.Attachments{}) {
		fmt.Fprintf(out, "  attachments %d (%s), %d to fetch, %d could not be fetched: ingest.attachment says why\n\n", a.Fetched, byteCount(a.Bytes),
			a.Pending, a.Failed)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "TYPE\tFILES\tLINES\tINSERTED\tUPDATED\tUNCHANGED\tSUPERSEDED\tDELETED\tGHOSTS\t")
	for _, t := range types {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", printable(t.ResourceType), t.Files, t.Lines, t.Inserted, t.Updated,
			t.Unchanged, t.Superseded, t.Deleted, t.Ghosts)
	}
	return w.Flush()
}

// newDecisionCommand makes a command that changes one export.
func newDecisionCommand(name, short, done string, decide func(*scheduler.Engine, context.Context, int64, string) error) *cobra.Command {
	cmd := &cobra.Command{Use: name + " EXPORT", Short: short, Args: oneArg}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := exportNumber(args[0])
		if err != nil {
			return err
		}
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			engine, err := scheduler.New(scheduler.Options{Store: d.Store})
			if err != nil {
				return err
			}
			if err := decide(engine, cmd.Context(), id, operator()); err != nil {
				return noExport(id, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "export %d %s\n", id, done)
			return err
		})
	}
	return cmd
}

func exportNumber(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id <= 0 {
		return 0, usageError{fmt.Errorf("%q: expected the number of an export, as 'ingestd exports list' shows it", arg)}
	}
	return id, nil
}

func noExport(id int64, err error) error {
	if errors.Is(err, store.ErrNoExport) {
		return fmt.Errorf("export %d: %w", id, err)
	}
	return err
}

// operator is who runs this command, for the record.
func operator() string {
	account, err := user.Current()
	if err != nil {
		return "an operator"
	}
	return account.Username
}
