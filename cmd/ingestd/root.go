package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
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

	root := newRootCommand(stdout)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	// A payer's words may be part of it.
	fmt.Fprintf(stderr, "ingestd: %s\n", printableLines(err.Error()))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// exitError passes on the exit code of a program that has said itself what was wrong.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// The groups of the commands in the help.
const (
	groupOperate = "operate"
	groupSetUp   = "set up"
	groupTry     = "try"
)

// newRootCommand makes the tree of commands, which print to out.
func newRootCommand(out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "ingestd",
		Short: "Loads FHIR Bulk Data exports of many payers into Postgres",
		Long: `Loads FHIR Bulk Data exports of many payers into Postgres, on a schedule.

Commands that look at a fleet or change it work on the database of the configuration, whether a daemon runs or not; with --server URL,
those that take it ask a daemon's admin API instead. The exit code is 0 for done, 1 for failed, 2 for wrong arguments or a configuration
that cannot be used.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(out) // before the completion command is made, which keeps it
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nRun '%s --help' for usage", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: groupOperate, Title: "Operate:"},
		&cobra.Group{ID: groupSetUp, Title: "Set up:"},
		&cobra.Group{ID: groupTry, Title: "Try:"},
	)
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupOperate, []*cobra.Command{
			newServeCommand(), newRunCommand(), newStatusCommand(), newExportsCommand(), newPauseCommand(), newResumeCommand(),
			newQuarantineCommand(), newExplainCommand(), newAuditCommand(), newPayersCommand(), newInstancesCommand(), newPsqlCommand(), newHealthcheckCommand(),
		}},
		{groupSetUp, []*cobra.Command{newCheckCommand(), newDoctorCommand(), newKeysCommand(), newNotifyCommand(), newMigrateCommand(), newIndexesCommand(), newSchemaCommand()}},
		{groupTry, []*cobra.Command{newDemoCommand(), newPayersimCommand()}},
		{"", []*cobra.Command{newVersionCommand(), newManCommand()}},
	} {
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommand(newHelpCommand())
	// A command that has others does nothing by itself.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.InitDefaultCompletionCmd()
	refuseWrongArguments(root)
	return root
}

// newHelpCommand is cobra's, but for a word that names no command, which is an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Show the help of a command",
		Example: "  ingestd help exports retry",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("there is no command %q", strings.Join(args, " "))}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// refuseWrongArguments makes wrong arguments of all commands errors of usage, and refuses a word that names no subcommand, which cobra
// would answer with the help and success.
func refuseWrongArguments(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseWrongArguments(sub)
	}
	check := cmd.Args
	if cmd.HasSubCommands() {
		check = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += ": did you mean " + strings.Join(near, " or ") + "?"
			}
			return errors.New(text)
		}
		cmd.SuggestionsMinimumDistance = 2
		if cmd.Run == nil && cmd.RunE == nil {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			text := err.Error()
			if !cmd.HasSubCommands() && strings.HasPrefix(text, "unknown command") { // cobra.NoArgs
				text = fmt.Sprintf("%s: expected no arguments, got %q", cmd.CommandPath(), strings.Join(args, " "))
			}
			if !strings.Contains(text, "\nUsage: ") {
				text += "\nRun '" + cmd.CommandPath() + " --help' for usage"
			}
			return usageError{errors.New(text)}
		}
		return nil
	}
}
