package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/ops"
)

func newStatusCommand() *cobra.Command {
	var asJSON, watch bool
	interval := 2 * time.Second
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show, for each payer, how fresh its data is, and why",
		Long: `Shows, for each payer of the configuration, its state, how old what is published of it is, when it was last published, when it is due
next, what the last export brought, and why it was not published, or is not yet, and what to do.

With --watch, it goes on until Ctrl-C: on a terminal it draws anew every --interval; elsewhere it prints a block (a line of JSON with
--output json) each time a payer's state, export or error changes.`,
		Example: `  ingestd status
  ingestd status --watch
  ingestd status --output json --server http://127.0.0.1:8090`,
		Args: cobra.NoArgs,
	}
	flags := addControlFlags(cmd)
	output := addListOutput(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "the same as --output json")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until Ctrl-C")
	cmd.Flags().DurationVar(&interval, "interval", interval, "how often --watch looks")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if asJSON {
			output.value = formatJSON
		}
		if watch && output.value == formatCSV {
			return usageError{fmt.Errorf("--watch goes with table and json, not with --output %s", output)}
		}
		if interval < 100*time.Millisecond {
			return usageError{fmt.Errorf("--interval %s: expected at least 100ms", interval)}
		}
		return withControl(cmd, flags, func(c control) error {
			if watch {
				return watchStatus(cmd.Context(), c, newWatchScreen(cmd.OutOrStdout(), output.value == formatJSON), interval)
			}
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output.value != formatTable {
				return printList(cmd.OutOrStdout(), output, status, nil)
			}
			instances, err := c.Instances(cmd.Context())
			if err != nil {
				return err
			}
			if err := printStatus(cmd.OutOrStdout(), status, time.Now()); err != nil {
				return err
			}
			return printVersions(cmd.OutOrStdout(), instances)
		})
	}
	return cmd
}

func printStatus(out io.Writer, status []ops.PayerStatus, now time.Time) error {
	var b strings.Builder
	t := newTable("PAYER", "STATE", "FRESHNESS", "LAST SUCCESS", "NEXT RUN", ">LINES", ">BYTES", ">CHANGED")
	for _, s := range status {
		var freshness, lines, bytes, what string
		if s.FreshnessSeconds != nil {
			freshness = seconds(*s.FreshnessSeconds)
		}
		if s.StaleSince != nil {
			freshness += fmt.Sprintf(" (no publish within %s)", shortDuration(time.Duration(s.FreshnessSLOSeconds*float64(time.Second))))
		}
		if e := s.LastExport; e != nil {
			lines, bytes, what = strconv.FormatInt(e.Lines, 10), byteCount(e.Bytes), changed(*e)
		}
		next := in(s.NextRun, now)
		if s.PausedAt != nil {
			next = "paused by " + s.PausedBy
		}
		state := s.State
		if s.LastExport != nil && state == ops.StateWaiting {
			state = shownState(*s.LastExport)
		}
		if s.StalledSince != nil {
			state += ", stalled"
		}
		t.row(s.Payer, state, freshness, ago(s.LastSuccess, now), next, lines, bytes, what)
	}
	t.write(&b, "")
	if len(status) == 0 {
		b.Reset()
		b.WriteString("the configuration has no payers\n")
	}
	for _, s := range status {
		if len(s.ConfigMismatch) > 0 {
			fmt.Fprintf(&b, "\n%s: instances have different configurations: %s\n  what to do: give all the same file, and reload them\n",
				s.Payer, mismatchText(s.ConfigMismatch))
		}
		if e := s.LastError; e != nil {
			writeError(&b, fmt.Sprintf("%s: export %d", s.Payer, e.ExportID), e)
		}
		if e := s.Retrying; e != nil {
			writeError(&b, fmt.Sprintf("%s: export %d tries again, failed %s", s.Payer, e.ExportID, ago(&e.At, now)), e)
		}
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	return nil
}

// writeError writes why something failed, and what to do.
func writeError(b *strings.Builder, what string, e *ops.ErrorSummary) {
	fmt.Fprintf(b, "\n%s: %s: %s\n", what, e.Code, printable(e.Message))
	if hint := cmp.Or(e.Hint, moreAbout(e.Code)); hint != "" {
		fmt.Fprintf(b, "  what to do: %s\n", printable(hint))
	}
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return shortDuration(now.Sub(*t)) + " ago"
}

func in(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return "in " + shortDuration(t.Sub(now))
}

// seconds writes a number of seconds as a duration.
func seconds(n float64) string { return shortDuration(time.Duration(n * float64(time.Second))) }
