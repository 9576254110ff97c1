package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

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
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List the configured payers", Args: cobra.NoArgs,
		Long: `Lists the payers of the configuration. It connects to nothing; 'ingestd status' tells how their exports stand, and
'ingestd doctor' whether they can be exported.`,
		Example: `  ingestd payers list --config /etc/ingestd/ingestd.yaml`,
	}
	path := addConfigFlag(cmd)
	addTableOrJSON(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := tableOrJSON(output); err != nil {
			return err
		}
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		if output == "json" {
			return printJSON(cmd.OutOrStdout(), listedPayers(c))
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "PAYER\tENABLED\tPROFILE\tAUTH\tEXPORT\tSCHEDULE\tFHIR URL")
		for i, p := range listedPayers(c) {
			fmt.Fprintf(w, "%s\t%t\t%s\t%s\t%s\t%s\t%s\n", p.Payer, p.Enabled, orDash(p.Profile), p.Auth,
				exportSummary(c.Payers[i].Export), orDash(p.Schedule), p.FHIRURL)
		}
		return w.Flush()
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
	var output string
	cmd := &cobra.Command{
		Use:   "profiles [NAME]",
		Short: "List the profiles, or show what one sets and why",
		Long: `A profile is what is known of the server that a payer runs, as settings of the payer: 'profile: NAME' in the configuration
applies them, and each is overridden by the same key in the payer. Without a name, all profiles are listed.`,
		Example: `  ingestd payers profiles
  ingestd payers profiles bcda --output json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%s: expected one profile, or none for all of them", cmd.CommandPath())}
			}
			return nil
		},
	}
	addTableOrJSON(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := tableOrJSON(output); err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if len(args) == 0 {
			if output == "json" {
				return printJSON(out, config.Profiles())
			}
			return printProfiles(out, config.Profiles())
		}
		profile, ok := config.FindProfile(args[0])
		if !ok {
			return usageError{fmt.Errorf("there is no profile %q: %s", args[0], config.SuggestProfile(args[0]))}
		}
		if output == "json" {
			return printJSON(out, profile)
		}
		return printProfile(out, profile)
	}
	return cmd
}

func printProfiles(out io.Writer, profiles []config.Profile) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PROFILE\tSERVER\tSETS")
	for _, p := range profiles {
		keys := make([]string, len(p.Settings))
		for i, s := range p.Settings {
			keys[i] = s.Key
		}
		name := strings.Join(append([]string{p.Name}, p.Aliases...), ", ")
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, p.Title, strings.Join(keys, " "))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the profiles: %w", err)
	}
	return nil
}

// printProfile prints one profile: its settings, each with its reason, and then what else to know.
func printProfile(out io.Writer, p config.Profile) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s: %s\n\n", p.Name, p.Title)
	fmt.Fprintln(w, "KEY\tVALUE\tWHY")
	for _, s := range p.Settings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, plainText(s.Reason))
	}
	if len(p.Notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, note := range p.Notes {
		fmt.Fprintf(w, "- %s\n", plainText(note))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the profile: %w", err)
	}
	return nil
}

// plainText is a sentence of Markdown without its marks.
func plainText(markdown string) string { return strings.ReplaceAll(markdown, "`", "") }

// addTableOrJSON adds --output to a command that prints a table.
func addTableOrJSON(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVar(output, "output", "table", "form of the output: table or json")
}

func tableOrJSON(output string) error {
	if output != "table" && output != "json" {
		return usageError{fmt.Errorf("--output %q: expected table or json", output)}
	}
	return nil
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
