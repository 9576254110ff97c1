package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

func newIndexesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "indexes",
		Short: "Indexes of the resource tables that the configuration asks for",
	}
	cmd.AddCommand(newIndexesBuildCommand())
	return cmd
}

func newIndexesBuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build [PAYER]",
		Short: "Build the indexes of database.indexes that tables lack",
		Long: `Builds the indexes of database.indexes that the tables of a payer lack, or of all payers. A daemon does the same after each
publish. Readers and publishes go on meanwhile.`,
		Args: cobra.MaximumNArgs(1),
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withDatabase(cmd, *path, func(c *config.Config, d *daemon.Database) error {
			if len(c.Database.Indexes) == 0 {
				return usageError{errors.New("database.indexes is empty: there is nothing to build")}
			}
			engine, err := scheduler.New(scheduler.Options{Store: d.Store, Tuning: scheduler.Tuning{Indexes: daemon.Indexes(c.Database)}})
			if err != nil {
				return err
			}
			known, built := len(args) == 0, 0
			var failed []error
			for _, p := range c.Payers {
				if len(args) == 1 && args[0] != p.Name {
					continue
				}
				known = true
				err := engine.BuildIndexes(cmd.Context(), p.Name, func(b store.BuiltIndex) {
					built++
					fmt.Fprintf(cmd.OutOrStdout(), "built %s on %s in %s\n", b.Index, b.Table, b.Took.Round(time.Millisecond))
				})
				if errors.Is(err, store.ErrLocked) {
					err = fmt.Errorf("the indexes of %s are being built already", p.Name)
				}
				failed = append(failed, err)
			}
			if !known {
				return usageError{fmt.Errorf("the configuration has no payer %q", args[0])}
			}
			if err := errors.Join(failed...); err != nil {
				return err
			}
			if built == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to build")
			}
			return nil
		})
	}
	return cmd
}
