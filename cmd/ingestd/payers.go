package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
)

func newPayersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "payers",
		Short: "List the payers, and the profiles that fit their servers; remove one's data",
	}
	cmd.AddCommand(newPayersListCommand(), newPayersProfilesCommand(), newPayersRemoveCommand())
	return cmd
}

func newPayersListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the configured payers", Args: cobra.NoArgs,
		Long: `Lists the payers of the configuration. It connects to nothing; 'ingestd status' tells how their exports stand, and
'ingestd doctor' whether they can be exported.`,
		Example: `  ingestd payers list --config /etc/ingestd/ingestd.yaml`,
	}
	path := addConfigFlag(cmd)
	output := addListOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		listed := listedPayers(c)
		return printList(cmd.OutOrStdout(), output, listed, func() *table {
			t := newTable("PAYER", "ENABLED", "PROFILE", "AUTH", "EXPORT", "SCHEDULE", "FHIR URL")
			for i, p := range listed {
				t.row(p.Payer, p.Enabled, p.Profile, p.Auth, exportSummary(c.Payers[i].Export), p.Schedule, p.FHIRURL)
			}
			return t
		})
	}
	return cmd
}

// listedPayer is what is told of a payer.
type listedPayer struct {
	Payer    string `json:"payer"`
	Enabled  bool   `json:"enabled"`
	Profile  string `json:"profile"`
	FHIRURL  string `json:"fhir_url"`
	Auth     string `json:"auth_method"`
	Level    string `json:"level"`
	GroupID  string `json:"group_id,omitempty"`
	Schedule string `json:"schedule"`
	Source   string `json:"source"`
}

func listedPayers(c *config.Config) []listedPayer {
	listed := make([]listedPayer, 0, len(c.Payers))
	for _, p := range c.Payers {
		listed = append(listed, listedPayer{
			Payer: p.Name, Enabled: p.Enabled, Profile: p.Profile, FHIRURL: p.FHIRURL, Auth: p.Auth.Method,
			Level: p.Export.Level, GroupID: p.Export.GroupID, Schedule: p.Schedule, Source: p.Source,
		})
	}
	return listed
}

func newPayersProfilesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profiles [NAME]",
		Short: "List the profiles, or show what one sets and why",
		Long: `A profile is what is known of the server that a payer runs, as settings of the payer: 'profile: NAME' in the configuration
applies them, and each is overridden by the same key in the payer. Without a name, all profiles are listed.`,
		Example: `  ingestd payers profiles
  ingestd payers profiles bcda --output json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s: expected one profile, or none for all of them", cmd.CommandPath())
			}
			return nil
		},
	}
	output := addListOutput(cmd)
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		if len(args) == 0 {
			for _, p := range config.Profiles() {
				names = append(names, p.Name+"\t"+p.Title)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		if len(args) == 0 {
			all := config.Profiles()
			return printList(out, output, all, func() *table { return profileTable(all) })
		}
		profile, ok := config.FindProfile(args[0])
		if !ok {
			return usageError{fmt.Errorf("there is no profile %q: %s", args[0], config.SuggestProfile(args[0]))}
		}
		switch output.value {
		case formatJSON:
			return printJSON(out, profile)
		case formatCSV:
			return printCSV(out, profile.Settings)
		}
		return printProfile(out, profile)
	}
	return cmd
}

func profileTable(profiles []config.Profile) *table {
	t := newTable("PROFILE", "SERVER", "SETS")
	for _, p := range profiles {
		keys := make([]string, len(p.Settings))
		for i, s := range p.Settings {
			keys[i] = s.Key
		}
		t.row(strings.Join(append([]string{p.Name}, p.Aliases...), ", "), p.Title, strings.Join(keys, " "))
	}
	return t
}

// printProfile prints one profile: its settings, each with its reason, and then what else to know.
func printProfile(out io.Writer, p config.Profile) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", p.Name, p.Title)
	t := newTable("KEY", "VALUE", "WHY")
	for _, s := range p.Settings {
		t.row(s.Key, s.Value, plainText(s.Reason))
	}
	t.write(&b, "")
	if len(p.Notes) > 0 {
		b.WriteString("\n")
	}
	for _, note := range p.Notes {
		fmt.Fprintf(&b, "- %s\n", plainText(note))
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print the profile: %w", err)
	}
	return nil
}

// plainText is a sentence of Markdown without its marks.
func plainText(markdown string) string { return strings.ReplaceAll(markdown, "`", "") }
