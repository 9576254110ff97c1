package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/ops"
	"ingestd/internal/store"
)

// The states of exports, for flags and completion.
var (
	activeStates = []string{
		string(store.StateStarting), string(store.StatePolling), string(store.StateLoading), string(store.StatePublishing), string(store.StateHeld),
	}
	endedStates = []string{string(store.StatePublished), string(store.StateFailed), string(store.StateCanceled)}
)

func newExportsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exports",
		Short: "List exports, show one, cancel or retry it, or decide on one that is held back",
	}
	cmd.AddCommand(
		newExportsListCommand(),
		newExportsShowCommand(),
		newExportsCertificateCommand(),
		newExportsCancelCommand(),
		newExportsRetryCommand(),
		newExportsReleaseCommand(),
		newExportsRejectCommand(),
	)
	return cmd
}

func newExportsListCommand() *cobra.Command {
	var filter ops.ExportFilter
	var state string
	cmd := &cobra.Command{
		Use: "list", Short: "List the newest exports", Args: cobra.NoArgs,
		Example: `  ingestd exports list --payer bluecross
  ingestd exports list --state held --output json`,
	}
	flags := addControlFlags(cmd)
	cmd.Flags().StringVar(&filter.Payer, "payer", "", "only those of this `payer`")
	cmd.Flags().StringVar(&state, "state", "", "only those in this `state`: starting, polling, loading, publishing, held, published,\nfailed or canceled; waiting are those starting that have not had their turn")
	cmd.Flags().IntVar(&filter.Limit, "limit", 20, "how many at most")
	output := addListOutput(cmd)
	completePayerFlag(cmd, flags.config)
	states := slices.Concat([]string{ops.StateWaiting}, activeStates, endedStates)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp)) // it was added above
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkLimit(filter.Limit); err != nil {
			return err
		}
		if state != "" && !slices.Contains(states, state) {
			return usageError{fmt.Errorf("--state %q: no export is ever in this state", state)}
		}
		filter.State = store.State(state)
		return withControl(cmd, flags, func(c control) error {
			exports, err := c.Exports(cmd.Context(), filter)
			if err != nil {
				return err
			}
			return printList(cmd.OutOrStdout(), output, exports, func() *table { return exportTable(exports) })
		})
	}
	return cmd
}

func exportTable(exports []ops.ExportSummary) *table {
	t := newTable(">EXPORT", "PAYER", "KIND", "STATE", "STARTED", ">TOOK", ">LINES", ">BYTES", ">CHANGED", "ERROR")
	for _, x := range exports {
		t.row(x.ExportID, x.Payer, x.Kind, shownState(x), x.StartedAt.UTC().Format(time.RFC3339), seconds(x.Seconds), x.Lines, byteCount(x.Bytes),
			changed(x), x.ErrorCode)
	}
	return t
}

// shownState is the state of an export, or that it waits, and for what.
func shownState(x ops.ExportSummary) string {
	if x.Waiting == "" {
		return x.State
	}
	return ops.StateWaiting + " (" + waitingKey(x.Waiting) + ")"
}

// waitingKey is the key of the configuration that lets exports wait.
func waitingKey(waiting string) string {
	if waiting == ops.WaitingForOthers {
		return "fleet.max_exports"
	}
	return waiting
}

// changed is what an export did to the tables, in short.
func changed(x ops.ExportSummary) string {
	return fmt.Sprintf("+%d ~%d -%d", x.Inserted, x.Updated, x.Deleted+x.Ghosts)
}

func newExportsCancelCommand() *cobra.Command {
	return newDecisionCommand("cancel", "canceled", &cobra.Command{
		Short: "End an export that is not finished, here and at the payer",
		Long: `Ends an export that is not finished, whatever it is at: loads on any instance end at their next checkpoint, what was staged is dropped,
and the payer is told by a DELETE. The tables stay as they are. The schedule goes on; 'ingestd pause' lets it rest.`,
		Example: "  ingestd exports cancel 17",
	}, activeStates, func(ctx context.Context, c control, id int64) error { return c.Cancel(ctx, id, operator()) })
}

func newExportsReleaseCommand() *cobra.Command {
	return newDecisionCommand("release", "released: it is being published", &cobra.Command{
		Short: "Publish a held export as it is, whatever it removes",
		Long: `Publishes an export that is held back, because it would remove more of the payer's rows than load.ghost_max_share allows. What it
would remove, 'ingestd exports show' tells. Nothing brings the rows back but another export.`,
		Example: "  ingestd exports release 17",
	}, []string{string(store.StateHeld)}, func(ctx context.Context, c control, id int64) error { return c.Release(ctx, id, operator()) })
}

func newExportsRejectCommand() *cobra.Command {
	return newDecisionCommand("reject", "rejected", &cobra.Command{
		Short:   "End a held export without publishing it",
		Long:    "Ends an export that is held back. The tables stay as they are, and the next export asks for the same again.",
		Example: "  ingestd exports reject 17",
	}, []string{string(store.StateHeld)}, func(ctx context.Context, c control, id int64) error { return c.Reject(ctx, id, operator()) })
}

// newDecisionCommand completes a command that changes one export, which is in one of the given states.
func newDecisionCommand(name, done string, cmd *cobra.Command, states []string,
	decide func(ctx context.Context, c control, id int64) error,
) *cobra.Command {
	cmd.Use, cmd.Args = name+" EXPORT", oneArg
	flags := addControlFlags(cmd)
	cmd.ValidArgsFunction = completeExports(flags, states...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := exportNumber(args[0])
		if err != nil {
			return err
		}
		return withControl(cmd, flags, func(c control) error {
			if err := decide(cmd.Context(), c, id); err != nil {
				return err
			}
			return printLine(cmd.OutOrStdout(), fmt.Sprintf("export %d %s", id, done))
		})
	}
	return cmd
}

func newExportsRetryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "retry EXPORT", Short: "Start what a failed, canceled or rejected export asked for again, as a new export", Args: oneArg,
		Long: `Asks the payer again for what an export asked for that was not published: the same kind, types and _since, as a new export with a
number of its own, which is printed. The daemons work it; it starts only if no other export of the payer runs.

An export is refused whose configuration has changed since in what it asks for: 'ingestd run' starts one under the new configuration.`,
		Example: "  ingestd exports retry 17",
	}
	flags := addControlFlags(cmd)
	cmd.ValidArgsFunction = completeExports(flags, string(store.StateFailed), string(store.StateCanceled))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := exportNumber(args[0])
		if err != nil {
			return err
		}
		return withControl(cmd, flags, func(c control) error {
			retried, err := c.Retry(cmd.Context(), id, operator())
			if err != nil {
				return err
			}
			warnOfNoDaemon(cmd, c)
			return printLine(cmd.OutOrStdout(), fmt.Sprintf("export %d is enqueued again as export %d", id, retried))
		})
	}
	return cmd
}

// warnOfNoDaemon says so where nobody is there to work what was enqueued.
func warnOfNoDaemon(cmd *cobra.Command, c control) {
	direct, ok := c.(ops.Direct)
	if !ok {
		return // a daemon has answered
	}
	if leads, err := direct.Store.HasLeader(cmd.Context()); err == nil && !leads {
		_ = printLine(cmd.ErrOrStderr(), "no daemon is at work on this database: the export waits until one is") // it is enqueued all the same
	}
}

func exportNumber(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id <= 0 {
		return 0, usageError{fmt.Errorf("%q: expected the number of an export, as 'ingestd exports list' shows it", arg)}
	}
	return id, nil
}

// maxListed bounds --limit, as the admin API does.
const maxListed = 1000

func checkLimit(limit int) error {
	if limit < 1 || limit > maxListed {
		return usageError{fmt.Errorf("--limit %d: expected a number from 1 to %d", limit, maxListed)}
	}
	return nil
}
