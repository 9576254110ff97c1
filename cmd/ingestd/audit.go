package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/store"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Show who changed what, when and from where"}
	cmd.AddCommand(newAuditListCommand(), newAuditExportCommand(), newAuditPruneCommand())
	return cmd
}

func newAuditListCommand() *cobra.Command {
	var filter store.AuditFilter
	var since string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List the newest changes that operators made", Args: cobra.NoArgs,
		Long: `Lists the audit events: each command and each request to the admin API that changed something has left one, in the transaction of the
change. What instances do by themselves, exports, tokens, configurations and pruning, is left out, unless --all or --action asks for it.
--since takes an instant, or how long ago.`,
		Example: `  ingestd audit list --since 24h
  ingestd audit list --since 2026-01-31T00:00:00Z --action cancel --output csv`,
	}
	flags := addControlFlags(cmd)
	cmd.Flags().BoolVar(&filter.All, "all", false, "list what instances did by themselves, too")
	cmd.Flags().StringVar(&since, "since", "", "only those since this `time`: 2026-01-31T00:00:00Z, or 24h for a day ago")
	cmd.Flags().StringVar(&filter.Action, "action", "", "only this `action`: run, retry, cancel, release, reject, pause, resume,\n'quarantine retry', 'quarantine show', 'payers remove', migrate, grant, 'audit prune', 'export start',\n'export publish', 'export hold', 'export fail', token, configure or prune")
	cmd.Flags().StringVar(&filter.Object, "object", "", "only those on this `object`: 'export 17', 'payer bluecross'")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	output := addListOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkLimit(limit); err != nil {
			return err
		}
		var err error
		if filter.Since, err = timeOrAgo("since", since, time.Now()); err != nil {
			return err
		}
		return withControl(cmd, flags, func(c control) error {
			events, err := c.Audit(cmd.Context(), filter, limit)
			if err != nil {
				return err
			}
			return printList(cmd.OutOrStdout(), output, events, func() *table { return auditTable(events) })
		})
	}
	return cmd
}

func auditTable(events []store.AuditEvent) *table {
	t := newTable("TIME", "WHO", "VIA", "FROM", "ACTION", "OBJECT", "DETAILS")
	for _, e := range events {
		from := e.Host
		if e.Source == store.SourceAPI || from == "" {
			from = e.RemoteAddress
		}
		details := ""
		if len(e.Details) > 0 {
			if text, err := json.Marshal(e.Details); err == nil {
				details = string(text)
			}
		}
		t.row(e.At.UTC().Format(time.RFC3339), e.Actor, e.Source, from, e.Action, e.Object, details)
	}
	return t
}

// timeOrAgo reads an instant, or how long before now it was; the zero time of nothing.
func timeOrAgo(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, usageError{fmt.Errorf("--%s %q: expected an instant such as 2026-01-31T00:00:00Z, or how long ago, such as 24h", flag, text)}
	}
	return at, nil
}
