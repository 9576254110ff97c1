package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// nextRuns is how many runs of a payer are told ahead.
const nextRuns = 3

func newCheckCommand() *cobra.Command {
	var configFile *string
	var show bool
	var against, tokenReference, output string
	command := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, offline",
		Long: `Reads the configuration as the daemon would, and tells what it says and when what runs next. It connects to nothing and
resolves no secrets: that is what 'ingestd doctor' does. Everything that is wrong is told at once, one problem a line, with
file, line, key and what was expected; the exit code is then 2.

With --print, the effective configuration is written as YAML instead: with the included files merged, the defaults laid
under each payer, what comes from a profile marked, and without secrets.

With --against, the configuration is compared with the one that a running daemon uses, key by key: what a reload or a restart
would change; what a reload does not is marked. The exit code is 0 where they are equal, and 1 where they differ. The admin token is the configuration's own,
unless --token names another.`,
		Example: `  ingestd check --config /etc/ingestd/ingestd.yaml
  ingestd check --config /etc/ingestd/ingestd.yaml --print
  ingestd check --config /etc/ingestd/ingestd.yaml --against http://127.0.0.1:8090`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*configFile)
			if err != nil {
				return err
			}
			if _, err := daemon.NewNotifier(c, nil, ""); err != nil { // tries the targets' own templates
				return usageError{err}
			}
			if against != "" {
				return checkAgainst(cmd, c, against, config.Secret(tokenReference), output)
			}
			if !show {
				return printSummary(cmd.OutOrStdout(), c, time.Now())
			}
			dump, err := c.Dump()
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(dump); err != nil {
				return fmt.Errorf("print the configuration: %w", err)
			}
			return printLine(cmd.ErrOrStderr(), configurationIsValid)
		},
	}
	configFile = addConfigFlag(command)
	command.Flags().StringVar(&against, "against", "", "the admin URL of a running daemon to compare with, for example http://127.0.0.1:8090")
	command.Flags().StringVar(&tokenReference, "token", "", "with --against: a reference to that daemon's admin token, such as env:TOKEN")
	command.Flags().StringVar(&output, "output", "text", "with --against: form of the differences: text or json")
	command.Flags().BoolVar(&show, "print", false, "print the effective configuration, without secrets, instead of a summary")
	return command
}

const configurationIsValid = "configuration is valid"

// printSummary tells what an operator wants to see confirmed: what is connected to what, who signs, and what runs when.
func printSummary(out io.Writer, c *config.Config, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, file := range c.Files {
		heading := "files"
		if i > 0 {
			heading = ""
		}
		fmt.Fprintf(w, "%s\t%s\n", heading, file)
	}
	fmt.Fprintf(w, "database\t%s, schema %s, at most %d connections\n", c.Database.URL, c.Database.Schema, c.Database.MaxConnections)
	if c.Database.DirectURL != "" {
		fmt.Fprintf(w, "\t%s for what needs a session\n", c.Database.DirectURL)
	}
	if warning := store.TLSWarning(string(c.Database.URL)); warning != "" {
		fmt.Fprintf(w, "warning\t%s\n", warning)
	}
	fmt.Fprintf(w, "admin\t%s\n", listening(c.Admin.Listen))
	fmt.Fprintf(w, "jwks\t%s\n", listening(c.JWKS.Listen))
	if c.Fleet.MaxExports > 0 {
		fmt.Fprintf(w, "fleet\tat most %s at once\n", count(c.Fleet.MaxExports, "export"))
	}
	printKeySummary(w, c)
	printNotifySummary(w, c)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	if len(c.Payers) == 0 {
		fmt.Fprintln(out, "\nno payers: nothing will run")
	}
	for _, p := range c.Payers {
		if err := printPayerSummary(out, p, now); err != nil {
			return err
		}
	}
	return printLine(out, "\n"+configurationIsValid)
}

func listening(address string) string {
	if address == "" {
		return "off"
	}
	return "listens on " + address
}

func printKeySummary(w io.Writer, c *config.Config) {
	if len(c.Keys) == 0 {
		fmt.Fprintf(w, "keys\tnone\n")
	}
	for i, k := range c.Keys {
		heading := "keys"
		if i > 0 {
			heading = ""
		}
		signs := 0
		for _, p := range c.Payers {
			if p.Auth.Method == "private_key_jwt" && p.Auth.Key == k.ID {
				signs++
			}
		}
		line := fmt.Sprintf("%s  %s  %s", k.ID, k.State, k.PrivateKey)
		if k.State == "active" {
			line += "  signs for " + count(signs, "payer")
		}
		fmt.Fprintf(w, "%s\t%s\n", heading, line)
	}
}

func printNotifySummary(w io.Writer, c *config.Config) {
	for i, n := range c.Notify {
		heading := "notify"
		if i > 0 {
			heading = ""
		}
		events, payers := n.Events, "all payers"
		if len(events) == 0 {
			events = config.NotifyEvents
		}
		if len(n.Payers) > 0 {
			payers = strings.Join(n.Payers, ", ")
		}
		fmt.Fprintf(w, "%s\t%s  %s  of %s\n", heading, n.Name, strings.Join(events, ", "), payers)
	}
}

func printPayerSummary(out io.Writer, p config.Payer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\npayer %s\t%s\n", p.Name, p.FHIRURL)
	if len(p.FromProfile) > 0 {
		fmt.Fprintf(w, "  profile\t%s, sets %s\n", p.Profile, strings.Join(p.FromProfile, " "))
	}
	fmt.Fprintf(w, "  auth\t%s\n", authSummary(p.Auth))
	fmt.Fprintf(w, "  export\t%s\n", exportSummary(p.Export))
	full := p
	full.Schedule = ""
	incremental := p
	incremental.Export.FullSchedule = ""
	for _, s := range []struct {
		heading, expression string
		payer               config.Payer
	}{{"schedule", p.Schedule, incremental}, {"full runs", p.Export.FullSchedule, full}} {
		switch {
		case s.expression != "":
			fmt.Fprintf(w, "  %s\t%s (%s)\n", s.heading, s.expression, p.Timezone)
			fmt.Fprintf(w, "    next\t%s\n", runsAfter(s.payer, now))
		case s.heading == "schedule":
			fmt.Fprintf(w, "  schedule\tnone: runs only by 'ingestd run %s'\n", p.Name)
		}
	}
	if p.NotBetween != "" {
		fmt.Fprintf(w, "  not between\t%s (%s)\n", p.NotBetween, p.Timezone)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	return nil
}

func authSummary(a config.Auth) string {
	switch a.Method {
	case "none":
		return "none: no token is sent"
	case "private_key_jwt":
		return fmt.Sprintf("%s as %s, signed with key %s", a.Method, a.ClientID, a.Key)
	default:
		return fmt.Sprintf("%s as %s, secret from %s", a.Method, a.ClientID, a.ClientSecret)
	}
}

func exportSummary(x config.Export) string {
	parts := []string{x.Level}
	if x.GroupID != "" {
		parts[0] += " " + x.GroupID
	}
	if len(x.Types) == 0 {
		parts = append(parts, "all types")
	} else {
		parts = append(parts, strings.Join(x.Types, " "))
	}
	if len(x.TypeFilters) > 0 {
		parts = append(parts, count(len(x.TypeFilters), "filter"))
	}
	if x.Since == "never" {
		parts = append(parts, "always in full")
	}
	return strings.Join(parts, ", ")
}

// runsAfter lists the next runs of a payer in its timezone, as the scheduler will start them.
func runsAfter(p config.Payer, now time.Time) string {
	if !p.Enabled {
		return "none: the payer is not enabled"
	}
	zone, err := time.LoadLocation(p.Timezone)
	if err != nil {
		zone = time.UTC // the configuration was checked
	}
	var runs []string
	for range nextRuns {
		if now = scheduler.NextRun(p, now); now.IsZero() {
			break
		}
		runs = append(runs, now.In(zone).Format("Mon 2006-01-02 15:04:05 MST"))
	}
	return strings.Join(slices.Compact(runs), ", ")
}

// count writes a number with its noun: 1 payer, 2 payers.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
