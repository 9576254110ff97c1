package main

import (
	"fmt"
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
	cmd.AddCommand(newMigrateUpCommand(), newMigrateStatusCommand(), newMigrateRolesCommand())
	return cmd
}

func newMigrateUpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that the database lacks",
		Long: `Applies the migrations that the database lacks, under a lock: several instances may do it at once. 'ingestd serve' does the same
at its start, unless it is told not to; where it works as a role that may not, this command does it as the one that may.`,
		Args: cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			applied, err := d.Store.MigrateBy(cmd.Context(), operator())
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

// listedMigration is a migration as it is listed.
type listedMigration struct {
	Version   int        `json:"version"`
	Name      string     `json:"name"`
	AppliedAt *time.Time `json:"applied_at"`
}

func newMigrateStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List the migrations and when they were applied",
		Args:  cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	output := addListOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			all, err := d.Store.Migrations(cmd.Context())
			if err != nil {
				return err
			}
			listed := make([]listedMigration, len(all))
			for i, m := range all {
				listed[i] = listedMigration{Version: m.Version, Name: m.Name}
				if !m.AppliedAt.IsZero() {
					at := m.AppliedAt.UTC()
					listed[i].AppliedAt = &at
				}
			}
			return printList(cmd.OutOrStdout(), output, listed, func() *table {
				t := newTable("VERSION", "NAME", "APPLIED")
				for _, m := range listed {
					applied := "not yet"
					if m.AppliedAt != nil {
						applied = m.AppliedAt.Format(time.RFC3339)
					}
					t.row(fmt.Sprintf("%04d", m.Version), m.Name, applied)
				}
				return t
			})
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
