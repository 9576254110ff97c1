package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"
)

func newInstancesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "instances", Short: "List the instances that work on the database, and whether they agree"}
	cmd.AddCommand(newInstancesListCommand())
	return cmd
}

// instanceView is an instance in the JSON of 'instances list', which is a public interface.
type instanceView struct {
	Instance  string            `json:"instance"`
	Version   string            `json:"version"`
	Live      bool              `json:"live"`
	StartedAt time.Time         `json:"started_at"`
	SeenAt    time.Time         `json:"seen_at"`
	ChangedAt time.Time         `json:"config_changed_at"`
	Digest    string            `json:"config_digest"`
	Payers    map[string]string `json:"payers"`
}

func newInstancesListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the daemons, when each was last seen, and of which payers their configurations differ",
		Long: `Lists the daemons that work on the database. Each says every ten seconds that it lives; one that was not seen for 45
seconds counts as gone, and stays listed for a day. Payers that live instances have configured differently, or that only
some of them have, are told below.`,
		Args: cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().StringVar(&output, "output", "table", "form of the output: table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := tableOrJSON(output); err != nil {
			return err
		}
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			all, err := d.Store.Instances(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				views := make([]instanceView, 0, len(all))
				for _, i := range all {
					views = append(views, instanceView{i.Name(), i.Version, i.Live, i.StartedAt, i.SeenAt, i.ChangedAt, i.Digest, i.Payers})
				}
				return printJSON(cmd.OutOrStdout(), views)
			}
			mismatches, err := d.Store.Mismatches(cmd.Context())
			if err != nil {
				return err
			}
			return printInstances(cmd.OutOrStdout(), all, mismatches, time.Now())
		})
	}
	return cmd
}

func printInstances(out io.Writer, all []store.Instance, mismatches map[string]map[string]string, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "INSTANCE\tSTATE\tVERSION\tSTARTED\tSEEN\tPAYERS\tCONFIGURATION")
	for _, i := range all {
		state := "live"
		if !i.Live {
			state = "gone"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", printable(i.Name()), state, printable(i.Version), ago(&i.StartedAt, now),
			ago(&i.SeenAt, now), len(i.Payers), i.Digest)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, payer := range slices.Sorted(maps.Keys(mismatches)) {
		fmt.Fprintf(out, "\n%s: instances have different configurations: %s\n", payer, mismatchText(mismatches[payer]))
	}
	return nil
}

// mismatchText lists the instances with the digests of what they have configured.
func mismatchText(digests map[string]string) string {
	var parts []string
	for _, instance := range slices.Sorted(maps.Keys(digests)) {
		digest := digests[instance]
		if digest == "" {
			digest = "none"
		}
		parts = append(parts, printable(instance)+" "+digest)
	}
	return strings.Join(parts, ", ")
}
