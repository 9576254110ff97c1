package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/daemon"
	"ingestd/internal/notify"
)

func newNotifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Try the webhooks that are told of failures",
	}
	cmd.AddCommand(newNotifyTestCommand())
	return cmd
}

func newNotifyTestCommand() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "Send a test event to a target, and print what came back",
		Long: `Sends an event to a target of the configuration, as the daemon would: with its template, headers and signature, and within its
timeout. What the target answers is printed; the exit code is 1 where it does not take the event. With --event, the event is an
example of that kind, with made-up numbers. No database is needed.`,
		Example: `  ingestd notify test chat --config /etc/ingestd/ingestd.yaml
  ingestd notify test oncall --event held`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s: expected the name of a target\nUsage: %s", cmd.CommandPath(), cmd.UseLine())}
			}
			return nil
		},
	}
	path := addConfigFlag(cmd)
	cmd.Flags().StringVar(&kind, "event", string(notify.Test), "the kind of event: test, failed, held, stale or recovered")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch notify.Kind(kind) {
		case notify.Test, notify.Failed, notify.Held, notify.Stale, notify.Recovered:
		default:
			return usageError{fmt.Errorf("--event %q: expected test, failed, held, stale or recovered", kind)}
		}
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		sender, err := daemon.NewNotifier(c, nil, buildVersion())
		if err != nil {
			return usageError{err}
		}
		names := sender.Names()
		if len(names) == 0 {
			return usageError{errors.New("the configuration has no notify targets: docs/notifications.md says how to add one")}
		}
		if !slices.Contains(names, args[0]) {
			return usageError{fmt.Errorf("the configuration has no notify target %q: expected one of %s", args[0], strings.Join(names, ", "))}
		}
		answer, err := sender.Send(cmd.Context(), args[0], notify.Sample(notify.Kind(kind), time.Now().UTC()))
		if answer.Status != 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: HTTP %d in %s: %s\n", args[0], answer.Status, answer.Took.Round(time.Millisecond),
				printable(strings.TrimSpace(answer.Body)))
		}
		return err
	}
	return cmd
}
