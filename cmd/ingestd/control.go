package main

import (
	"context"
	"fmt"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/ops"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// control is what operators look at and change: on the database, or through the admin API of a daemon. Both do the same in the same
// transactions, and leave the same audit events.
type control interface {
	view
	Start(ctx context.Context, payer string, o scheduler.RunOptions) (int64, error)
	Cancel(ctx context.Context, id int64, by store.Actor) error
	Release(ctx context.Context, id int64, by store.Actor) error
	Reject(ctx context.Context, id int64, by store.Actor) error
	Retry(ctx context.Context, id int64, by store.Actor) (int64, error)
	Pause(ctx context.Context, payer string, by store.Actor) ([]string, error)
	Resume(ctx context.Context, payer string, by store.Actor) ([]string, error)
	RetryQuarantine(ctx context.Context, id int64, by store.Actor) (store.Retried, error)
	RemovePayer(ctx context.Context, payer string, yes bool, by store.Actor) (store.Removed, error)
}

// view is what operators look at.
type view interface {
	Status(ctx context.Context) ([]ops.PayerStatus, error)
	Exports(ctx context.Context, f ops.ExportFilter) ([]ops.ExportSummary, error)
	Export(ctx context.Context, id int64) (ops.ExportDetail, error)
	Audit(ctx context.Context, f store.AuditFilter, limit int) ([]store.AuditEvent, error)
	Instances(ctx context.Context) ([]ops.Instance, error)
	Quarantine(ctx context.Context, f store.QuarantineFilter, limit int) ([]ops.QuarantinedLine, error)
	QuarantinedRaw(ctx context.Context, id int64, by store.Actor) (ops.QuarantinedRaw, error)
	Certificate(ctx context.Context, id int64) (store.Certificate, error)
}

// controlFlags say by which way a command controls.
type controlFlags struct {
	config, server *string
}

const (
	serverVariable = "INGESTD_SERVER"
	tokenVariable  = "INGESTD_ADMIN_TOKEN"
)

// addControlFlags adds --config and --server to a command.
func addControlFlags(cmd *cobra.Command) controlFlags {
	return controlFlags{
		config: addConfigFlag(cmd),
		server: cmd.Flags().String("server", os.Getenv(serverVariable),
			"ask the daemon whose admin listener is at this `URL`, instead of the database of the\nconfiguration ("+serverVariable+"; its token in "+tokenVariable+")"),
	}
}

// withControl runs f with the control that the flags ask for. What the daemon or the database refuses is told with what to do.
func withControl(cmd *cobra.Command, flags controlFlags, f func(control) error) error {
	if *flags.server != "" {
		client, err := ops.NewClient(*flags.server, os.Getenv(tokenVariable))
		if err != nil {
			return usageError{fmt.Errorf("--server %q: %w", *flags.server, err)}
		}
		return explained(f(client))
	}
	return withDatabase(cmd, *flags.config, func(c *config.Config, d *daemon.Database) error {
		if err := d.Prepare(cmd.Context(), false); err != nil {
			return err
		}
		direct, err := newDirect(c, d)
		if err != nil {
			return err
		}
		return explained(f(direct))
	})
}

// newDirect is the control on the database. Its engine enqueues for the daemons, and works nothing itself.
func newDirect(c *config.Config, d *daemon.Database) (ops.Direct, error) {
	payers := make([]scheduler.Payer, len(c.Payers))
	for i, p := range c.Payers {
		payers[i].Config = p
	}
	engine, err := scheduler.New(scheduler.Options{Store: d.Store, Payers: payers, Tuning: scheduler.Tuning{MaxExports: c.Fleet.MaxExports}})
	if err != nil {
		return ops.Direct{}, err
	}
	return ops.Direct{Store: d.Store, Engine: engine, Payers: func() []config.Payer { return c.Payers }}, nil
}

// explained adds to an error what to do about it; a payer that is not there was mistyped.
func explained(err error) error {
	if err == nil {
		return nil
	}
	p := ops.Explain(err)
	if p.Hint != "" {
		err = fmt.Errorf("%w\n  what to do: %s", err, p.Hint)
	}
	if p.Code == ops.CodeUnknownPayer || p.Code == ops.CodeBadRequest || p.Code == ops.CodeConfigured {
		return usageError{err}
	}
	return err
}

// operator is who runs this command, for the audit: the account, and the one that it was before sudo.
func operator() store.Actor {
	by := store.Actor{Name: "an operator", Source: store.SourceCLI, Host: hostName()}
	if account, err := user.Current(); err == nil {
		by.Name = account.Username
	}
	if before := os.Getenv("SUDO_USER"); before != "" && before != by.Name {
		by.Name = before + " as " + by.Name
	}
	return by
}

// hostName is this host's name; empty where it has none.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
