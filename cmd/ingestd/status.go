package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/ops"
)

func newStatusCommand() *cobra.Command {
	var output string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show, for each payer, how fresh its data is, and why",
		Args:  cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().StringVar(&output, "output", "table", "form of the output: table or json")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the same as --output json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if asJSON {
			output = "json"
		}
		if output != "table" && output != "json" {
			return usageError{fmt.Errorf("--output %q: expected table or json", output)}
		}
		return withDatabase(cmd, *path, func(c *config.Config, d *daemon.Database) error {
			if err := d.Prepare(cmd.Context(), false); err != nil {
				return err
			}
			now := time.Now()
			status, err := ops.Status(cmd.Context(), d.Store, c.Payers, now)
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(status)
			}
			return printStatus(cmd.OutOrStdout(), status, now)
		})
	}
	return cmd
}

func printStatus(out io.Writer, status []ops.PayerStatus, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PAYER\tSTATE\tFRESHNESS\tLAST SUCCESS\tNEXT RUN\tLINES\tBYTES\tCHANGED")
	for _, s := range status {
		freshness, lines, bytes, changed := "-", "-", "-", "-"
		if s.FreshnessSeconds != nil {
			freshness = shortDuration(time.Duration(*s.FreshnessSeconds * float64(time.Second)))
		}
		if s.StaleSince != nil {
			freshness += fmt.Sprintf(" (no publish within %s)", shortDuration(time.Duration(s.FreshnessSLOSeconds*float64(time.Second))))
		}
		if e := s.LastExport; e != nil {
			lines, bytes = strconv.FormatInt(e.Lines, 10), byteCount(e.Bytes)
			changed = fmt.Sprintf("+%d ~%d -%d", e.Inserted, e.Updated, e.Deleted+e.Ghosts)
		}
		next := in(s.NextRun, now)
		if s.PausedAt != nil {
			next = "paused"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Payer, s.State, freshness,
			ago(s.LastSuccess, now), next, lines, bytes, changed)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range status {
		if len(s.ConfigMismatch) > 0 {
			fmt.Fprintf(out, "\n%s: instances have different configurations: %s\n  what to do: give all the same file, and reload them\n",
				s.Payer, mismatchText(s.ConfigMismatch))
		}
		if s.LastError == nil {
			continue
		}
		fmt.Fprintf(out, "\n%s: export %d: %s: %s\n", s.Payer, s.LastError.ExportID, s.LastError.Code, printable(s.LastError.Message))
		if s.LastError.Hint != "" {
			fmt.Fprintf(out, "  what to do: %s\n", s.LastError.Hint)
		}
	}
	return nil
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return shortDuration(now.Sub(*t)) + " ago"
}

func in(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return "in " + shortDuration(t.Sub(now))
}
