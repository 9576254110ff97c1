package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/store"
)

const (
	formatJSONLines = "jsonl"
	// auditPage is how many events are asked for at once, and held in memory: as many as the admin API gives.
	auditPage = 1000
)

func newAuditExportCommand() *cobra.Command {
	var since, until string
	cmd := &cobra.Command{
		Use: "export", Short: "Write all audit events of a time in their order, for an archive", Args: cobra.NoArgs,
		Long: `Writes every audit event from --since until --until: what operators changed and what instances did by themselves, which
exports they started, published, held and gave up, which tokens they were granted and which configurations they used. The oldest comes
first; it ends with what stood at its start. However many there are, no more than a page of them is in memory.`,
		Example: `  ingestd audit export --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z > 2026-01.jsonl
  ingestd audit export --since 24h --output csv`,
	}
	flags := addControlFlags(cmd)
	cmd.Flags().StringVar(&since, "since", "", "from this `time` on: 2026-01-31T00:00:00Z, or 24h for a day ago")
	cmd.Flags().StringVar(&until, "until", "", "before this `time`; without it, until now")
	output := addOutput(cmd, formatJSONLines, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if since == "" {
			return usageError{errors.New("--since is missing: expected an instant such as 2026-01-31T00:00:00Z, or how long ago, such as 24h")}
		}
		filter := store.AuditFilter{All: true, OldestFirst: true}
		var err error
		if filter.Since, err = timeOrAgo("since", since, time.Now()); err != nil {
			return err
		}
		if filter.Until, err = timeOrAgo("until", until, time.Now()); err != nil {
			return err
		}
		return withControl(cmd, flags, func(c control) error {
			return exportAudit(cmd.Context(), c, filter, auditWriter(cmd.OutOrStdout(), output.value))
		})
	}
	return cmd
}

// exportAudit writes the events page by page. Where no end is given, it is the event that is the last when it begins.
func exportAudit(ctx context.Context, c view, f store.AuditFilter, write func([]store.AuditEvent) error) error {
	newest, err := c.Audit(ctx, store.AuditFilter{All: true, Since: f.Since, Until: f.Until}, 1)
	if err != nil {
		return err
	}
	var last int64
	if len(newest) > 0 {
		last = newest[0].ID
	}
	if err := write(nil); err != nil {
		return err
	}
	for f.After < last {
		events, err := c.Audit(ctx, f, auditPage)
		if err != nil {
			return err
		}
		for len(events) > 0 && events[len(events)-1].ID > last {
			events = events[:len(events)-1]
		}
		if len(events) == 0 {
			return nil
		}
		if err := write(events); err != nil {
			return err
		}
		f.After = events[len(events)-1].ID
	}
	return nil
}

// auditWriter writes events in a form; called with none, it writes what stands before the first.
func auditWriter(out io.Writer, form string) func([]store.AuditEvent) error {
	if form != formatCSV {
		return func(events []store.AuditEvent) error {
			for _, e := range events {
				e.At = e.At.UTC()
				if err := printJSONLine(out, e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	w := csv.NewWriter(out)
	return func(events []store.AuditEvent) error {
		if events == nil {
			_ = w.Write([]string{"id", "at", "actor", "source", "host", "remote_address", "database_role", "action", "object", "details"})
		}
		for _, e := range events {
			details, err := json.Marshal(e.Details)
			if err != nil {
				return fmt.Errorf("print event %d: %w", e.ID, err)
			}
			_ = w.Write([]string{
				strconv.FormatInt(e.ID, 10), e.At.UTC().Format(time.RFC3339Nano), printable(e.Actor), string(e.Source), printable(e.Host),
				printable(e.RemoteAddress), printable(e.DatabaseRole), e.Action, printable(e.Object), printable(string(details)),
			})
		}
		w.Flush()
		if err := w.Error(); err != nil {
			return fmt.Errorf("print the events: %w", err)
		}
		return nil
	}
}
