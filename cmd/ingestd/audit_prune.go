package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"
)

func newAuditPruneCommand() *cobra.Command {
	var before string
	var force bool
	cmd := &cobra.Command{
		Use: "prune --before TIME", Short: "Delete old audit events, as the owner of the database's schemas", Args: cobra.NoArgs,
		Long: fmt.Sprintf(`Deletes the audit events before a time, and leaves an event that says so. Export them first: nothing brings them back. The role that
'ingestd serve' works as may only add to the audit; run it as the owner of the schemas. What is younger than %d years, as long as HIPAA asks
to keep such records, it refuses without --force.`, store.AuditYears),
		Example: `  ingestd audit export --since 2019-01-01T00:00:00Z --until 2020-01-01T00:00:00Z > 2019.jsonl
  ingestd audit prune --before 2020-01-01 --config owner.yaml`,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().StringVar(&before, "before", "", "only events before this `time`: 2020-01-01, or 2020-01-01T00:00:00Z")
	cmd.Flags().BoolVar(&force, "force", false, fmt.Sprintf("also what is younger than %d years", store.AuditYears))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		at, err := dayOrInstant(before)
		if err != nil {
			return err
		}
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			if err := d.Store.CheckSchema(cmd.Context()); err != nil {
				return err
			}
			n, err := d.Store.PruneAudit(cmd.Context(), store.AuditPrune{Before: at, Force: force, By: operator()})
			if young, ok := errors.AsType[*store.YoungAuditError](err); ok && !young.Forced {
				err = fmt.Errorf("%w: prune before that, or say --force", err)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "pruned %s\n", count(int(n), "event"))
			return err
		})
	}
	return cmd
}

// dayOrInstant reads a day, which begins in UTC, or an instant.
func dayOrInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, usageError{errors.New("--before is missing: expected a day such as 2020-01-31, or an instant such as 2020-01-31T00:00:00Z")}
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("--before %q: expected a day such as 2020-01-31, or an instant such as 2020-01-31T00:00:00Z", text)}
}
