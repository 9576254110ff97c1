package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"
)

func newMigrateRolesCommand() *cobra.Command {
	var roles store.Roles
	var show bool
	cmd := &cobra.Command{
		Use:   "roles --ingest ROLE [--reader ROLE]",
		Short: "Grant the roles of the daemon and of readers what they need, and nothing else",
		Long: `Run it as the owner of the database's schemas, behind 'ingestd migrate up', with roles that exist: deployments/postgres/roles.sql
makes them. The ingest role may then run 'ingestd serve' and the commands of operators, own the resource tables that it makes, and only
add to the audit. The reader may select from the resource tables. Grants hold for tables that are made later, too. The command can
be run again, and goes over to separate roles on a database that one role has worked on alone.`,
		Example: `  ingestd migrate up --config owner.yaml
  ingestd migrate roles --config owner.yaml --ingest ingestd_ingest --reader ingestd_reader`,
		Args: cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().StringVar(&roles.Ingest, "ingest", "", "the `role` that 'ingestd serve' works as")
	cmd.Flags().StringVar(&roles.Reader, "reader", "", "the `role` that reads the resource tables")
	cmd.Flags().BoolVar(&roles.ReadHistory, "reader-history", false, "let the reader read earlier versions, too, also of what was deleted")
	cmd.Flags().BoolVar(&show, "print", false, "print the SQL instead of running it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case roles.Ingest == "":
			return usageError{errors.New("--ingest is missing: expected the role that 'ingestd serve' works as")}
		case roles.ReadHistory && roles.Reader == "":
			return usageError{errors.New("--reader-history is of no use without --reader")}
		}
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			if show {
				if _, err := fmt.Fprint(cmd.OutOrStdout(), d.Store.GrantSQL(roles)); err != nil {
					return fmt.Errorf("print the grants: %w", err)
				}
				return nil
			}
			if err := d.Store.CheckSchema(cmd.Context()); err != nil {
				return err
			}
			if err := d.Store.Grant(cmd.Context(), roles, operator()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s may ingest\n", roles.Ingest)
			if roles.Reader != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "%s may read\n", roles.Reader)
			}
			return nil
		})
	}
	return cmd
}
