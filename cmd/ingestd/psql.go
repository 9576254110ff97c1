package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"
)

func newPsqlCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "psql [-- ARGS]",
		Short: "Open psql on the configured database, the embedded one too",
		Long: `Opens psql on the database of the configuration, with the connection's user, password and TLS settings; what stands
behind -- is handed to psql. An embedded database is started if it does not run, and stopped afterwards if nobody else
uses it. The exit code is psql's.`,
		Example: `  ingestd psql --config ingestd.yaml
  ingestd psql --config ingestd.yaml -- -c 'SELECT payer, count(*) FROM fhir.patient GROUP BY payer'`,
	}
	path := addConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		program, err := exec.LookPath("psql")
		if err != nil {
			return errors.New("psql is not installed: install it with 'apt-get install postgresql-client'")
		}
		return withDatabase(cmd, *path, func(conf *config.Config, d *daemon.Database) error {
			c, err := d.Store.SessionConfig(cmd.Context())
			if err != nil {
				return err
			}
			return psql(cmd, program, withoutSecrets(os.Environ(), conf), c, args)
		})
	}
	return cmd
}

// psqlPatience bounds how long psql may take to end after it was told to.
const psqlPatience = 5 * time.Second

// psql runs psql on the terminal until it ends.
func psql(cmd *cobra.Command, program string, environ []string, c *pgx.ConnConfig, args []string) error {
	// Ctrl-C is for psql, which ends a query by it, not for this process.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)
	ctx, stop := signal.NotifyContext(context.WithoutCancel(cmd.Context()), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	child := exec.CommandContext(ctx, program, args...)
	child.Stdin, child.Stdout, child.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	child.Env = psqlEnvironment(environ, c)
	if c.Password != "" {
		forget, err := handPassword(child, c.Password)
		if err != nil {
			return err
		}
		defer forget()
	}
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = psqlPatience
	err := child.Run()
	ended, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case ok && ended.Exited():
		return exitError(ended.ExitCode())
	case err != nil:
		return fmt.Errorf("run psql: %w", err)
	}
	return nil
}

// redirects are variables by which libpq, or Debian's wrapper around psql, would go to another database than PGHOST's, or with
// another password.
var redirects = []string{"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGCLUSTER", "PGPASSWORD", "PGPASSFILE"}

// passedOn are the parameters of a connection string that pgx does not keep as they were written, and what libpq calls
// them in the environment.
var passedOn = map[string]string{
	"channel_binding":      "PGCHANNELBINDING",
	"connect_timeout":      "PGCONNECT_TIMEOUT",
	"options":              "PGOPTIONS",
	"require_auth":         "PGREQUIREAUTH",
	"sslcert":              "PGSSLCERT",
	"sslcertmode":          "PGSSLCERTMODE",
	"sslkey":               "PGSSLKEY",
	"sslnegotiation":       "PGSSLNEGOTIATION",
	"sslrootcert":          "PGSSLROOTCERT",
	"sslsni":               "PGSSLSNI",
	"target_session_attrs": "PGTARGETSESSIONATTRS",
}

// ours are the variables that hold ingestd's own secrets, or may: none of psql's business.
func ours(name string) bool {
	return strings.HasPrefix(name, "INGESTD_") || strings.HasPrefix(name, "AWS_") || name == "CREDENTIALS_DIRECTORY"
}

// withoutSecrets is environ without the variables that the configuration takes secrets from.
func withoutSecrets(environ []string, c *config.Config) []string {
	secrets := c.Environment()
	return slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(secrets, name)
	})
}

// psqlEnvironment is environ with what makes psql connect as c does, and as safely, but for the password.
func psqlEnvironment(environ []string, c *pgx.ConnConfig) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(redirects, name) || ours(name)
	})
	if u, err := url.Parse(c.ConnString()); err == nil {
		query := u.Query()
		for parameter, name := range passedOn {
			if query.Has(parameter) {
				env = append(env, name+"="+query.Get(parameter))
			}
		}
	}
	hosts, ports := []string{c.Host}, []string{strconv.Itoa(int(c.Port))}
	for _, f := range c.Fallbacks {
		host, port := f.Host, strconv.Itoa(int(f.Port))
		if last := len(hosts) - 1; host != hosts[last] || port != ports[last] {
			hosts, ports = append(hosts, host), append(ports, port)
		}
	}
	return append(env, "PGHOST="+strings.Join(hosts, ","), "PGPORT="+strings.Join(ports, ","),
		"PGDATABASE="+cmp.Or(c.Database, c.User), "PGUSER="+c.User, "PGSSLMODE="+store.SSLMode(c))
}
