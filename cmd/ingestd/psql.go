package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"ingestd/internal/daemon"
)

func newPsqlCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "psql [-- ARGS]",
		Short: "Open psql on the configured database, the embedded one too",
		Example: `  ingestd psql --config ingestd.yaml
  ingestd psql --config ingestd.yaml -- -c 'SELECT payer, count(*) FROM fhir.patient GROUP BY payer'`,
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		program, err := exec.LookPath("psql")
		if err != nil {
			return errors.New("psql is not installed: install it with 'apt-get install postgresql-client'")
		}
		return withDatabase(cmd, *path, func(d *daemon.Database) error {
			return psql(cmd, program, d.Store.Pool().Config().ConnConfig, args)
		})
	}
	return cmd
}

// psql runs psql on the terminal. What it connects to goes by the environment: arguments can be seen by every user of the
// machine, and a connection string may hold a password.
func psql(cmd *cobra.Command, program string, c *pgx.ConnConfig, args []string) error {
	child := exec.CommandContext(context.WithoutCancel(cmd.Context()), program, args...)
	child.Stdin, child.Stdout, child.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	child.Env = append(os.Environ(), "PGHOST="+c.Host, "PGPORT="+strconv.Itoa(int(c.Port)), "PGDATABASE="+c.Database,
		"PGUSER="+c.User, "PGPASSWORD="+c.Password)
	if c.TLSConfig != nil && os.Getenv("PGSSLMODE") == "" {
		child.Env = append(child.Env, "PGSSLMODE=require")
	}
	// Ctrl-C is for psql, which ends a query by it, not for this process.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)
	err := child.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return exitError(ended.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("run psql: %w", err)
	}
	return nil
}
