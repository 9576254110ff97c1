package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/ops"
)

func newInstancesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "instances", Short: "List the instances that work on the database, and whether they agree"}
	cmd.AddCommand(newInstancesListCommand())
	return cmd
}

func newInstancesListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the daemons, when each was last seen, and of which payers their configurations differ",
		Long: `Lists the daemons that work on the database. Each says every ten seconds that it lives; one that was not seen for 45
seconds counts as gone, and stays listed for a day. Payers that live instances have configured differently, or that only
some of them have, are told below, and so are different versions, as there are while instances are exchanged one by one.`,
		Args: cobra.NoArgs,
	}
	flags := addControlFlags(cmd)
	output := addListOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withControl(cmd, flags, func(c control) error {
			all, err := c.Instances(cmd.Context())
			if err != nil {
				return err
			}
			if err := printList(cmd.OutOrStdout(), output, all, func() *table { return instanceTable(all, time.Now()) }); err != nil {
				return err
			}
			if output.value != formatTable {
				return nil
			}
			mismatches := ops.Mismatches(all)
			for _, payer := range slices.Sorted(maps.Keys(mismatches)) {
				fmt.Fprintf(cmd.OutOrStdout(), "\n%s: instances have different configurations: %s\n", payer, mismatchText(mismatches[payer]))
			}
			return printVersions(cmd.OutOrStdout(), all)
		})
	}
	return cmd
}

// printVersions tells that live instances are of different versions, as they are while they are exchanged one by one.
func printVersions(out io.Writer, all []ops.Instance) error {
	versions := ops.Versions(all)
	if len(versions) < 2 {
		return nil
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		parts = append(parts, printable(version)+" ("+printable(strings.Join(versions[version], ", "))+")")
	}
	return printLine(out, "\ninstances have different versions: "+strings.Join(parts, ", "))
}

func instanceTable(all []ops.Instance, now time.Time) *table {
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
