package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
)

func newMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema to this version, or show where it stands",
	}
	cmd.AddCommand(newMigrateUpCommand(), newMigrateStatusCommand())
	return cmd
}

func newMigrateUpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that the database lacks",
		Long:  "Applies the migrations that the database lacks, under a lock: several instances may do it at once. serve does the same at its start, unless it is told not to.",
		Args:  cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			applied, err := d.Store.Migrate(cmd.Context())
			for _, m := range applied {
				fmt.Fprintf(cmd.OutOrStdout(), "applied %04d %s\n", m.Version, m.Name)
			}
			if err != nil {
				return err
			}
			if len(applied) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to apply")
			}
			return nil
		})
	}
	return cmd
}

func newMigrateStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List the migrations and when they were applied",
		Args:  cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			all, err := d.Store.Migrations(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "VERSION\tNAME\tAPPLIED")
			for _, m := range all {
				applied := "not yet"
				if !m.AppliedAt.IsZero() {
					applied = m.AppliedAt.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%04d\t%s\t%s\n", m.Version, m.Name, applied)
			}
			return w.Flush()
		})
	}
	return cmd
}

// withDatabase runs f with the configuration and its database, which need not be migrated.
func withDatabase(cmd *cobra.Command, path string, f func(*config.Config, *daemon.Database) error) error {
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	// A command that looks logs only what is wrong.
	c.Log.Level, c.Log.Format = "warn", "text"
	d, err := daemon.OpenDatabase(cmd.Context(), c.Database, newLogger(cmd.ErrOrStderr(), c.Log))
	if err != nil {
		return err
	}
	defer d.Close(cmd.Context())
	return f(c, d)
}
