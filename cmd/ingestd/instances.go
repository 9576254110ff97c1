package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
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
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the daemons, when each was last seen, and of which payers their configurations differ",
		Long: `Lists the daemons that work on the database. Each says every ten seconds that it lives; one that was not seen for 45
seconds counts as gone, and stays listed for a day. Payers that live instances have configured differently, or that only
some of them have, are told below.`,
		Args: cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	output := addListOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, *path, func(_ *config.Config, d *daemon.Database) error {
			all, err := d.Store.Instances(cmd.Context())
			if err != nil {
				return err
			}
			views := make([]instanceView, 0, len(all))
			for _, i := range all {
				views = append(views, instanceView{i.Name(), i.Version, i.Live, i.StartedAt, i.SeenAt, i.ChangedAt, i.Digest, i.Payers})
			}
			if err := printList(cmd.OutOrStdout(), output, views, func() *table { return instanceTable(views, time.Now()) }); err != nil {
				return err
			}
			if output.value != formatTable {
				return nil
			}
			mismatches, err := d.Store.Mismatches(cmd.Context())
			if err != nil {
				return err
			}
			for _, payer := range slices.Sorted(maps.Keys(mismatches)) {
				fmt.Fprintf(cmd.OutOrStdout(), "\n%s: instances have different configurations: %s\n", payer, mismatchText(mismatches[payer]))
			}
			return nil
		})
	}
	return cmd
}

func instanceTable(all []instanceView, now time.Time) *table {
	t := newTable("INSTANCE", "STATE", "VERSION", "STARTED", "SEEN", ">PAYERS", "CONFIGURATION")
	for _, i := range all {
		state := "live"
		if !i.Live {
			state = "gone"
		}
		t.row(i.Instance, state, i.Version, ago(&i.StartedAt, now), ago(&i.SeenAt, now), len(i.Payers), i.Digest)
	}
	return t
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
