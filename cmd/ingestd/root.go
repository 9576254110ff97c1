package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes that scripts and service managers rely on.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong arguments, or a configuration that cannot be used
)

// usageError marks an error that the user mends by typing something else or by editing the configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// run parses args, runs the command that they name and returns the process's exit code. The context that commands see
// ends at the first SIGINT or SIGTERM; a second signal then kills the process, because the handler is gone by then.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	fmt.Fprintf(stderr, "ingestd: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// exitError passes on the exit code of a program that has said itself what was wrong.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "ingestd",
		Short:         "Loads FHIR Bulk Data exports of many payers into Postgres",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nRun '%s --help' for usage", err, cmd.CommandPath())}
	})
	root.AddCommand(
		newCheckCommand(),
		newDemoCommand(),
		newDoctorCommand(),
		newExportsCommand(),
		newHealthcheckCommand(),
		newIndexesCommand(),
		newInstancesCommand(),
		newKeysCommand(),
		newMigrateCommand(),
		newNotifyCommand(),
		newPauseCommand(),
		newPayersCommand(),
		newPayersimCommand(),
		newPsqlCommand(),
		newQuarantineCommand(),
		newResumeCommand(),
		newRunCommand(),
		newSchemaCommand(),
		newServeCommand(),
		newStatusCommand(),
		newVersionCommand(),
	)
	return root
}
