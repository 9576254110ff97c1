package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"ingestd/docs"
)

func newExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain [CODE | ALERT]",
		Short: "Say what an error code or an alert means, and what to do about it",
		Long: `Prints what the runbooks say of an error code, as 'ingestd status', 'ingestd exports show', the log and notifications name it, or of an
alert; without an argument, the names of all. It needs neither a configuration nor a database.`,
		Example: `  ingestd explain auth_invalid_client
  ingestd explain IngestdPayerStale`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s: expected one code or alert, or none for the names of all", cmd.CommandPath())
			}
			return nil
		},
	}
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, r := range runbooks() {
			names = append(names, r.name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return listRunbooks(cmd.OutOrStdout(), runbooks())
		}
		for _, r := range runbooks() {
			if strings.EqualFold(r.name, args[0]) {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n%s\n", r.name, r.text); err != nil {
					return fmt.Errorf("print the runbook: %w", err)
				}
				return nil
			}
		}
		return usageError{errors.New("there is no code or alert " + args[0] + ": 'ingestd explain' lists them all")}
	}
	return cmd
}

// moreAbout is the command that says more about a code; "" where there is no more to say.
func moreAbout(code string) string {
	for _, r := range runbooks() {
		if r.name == code {
			return "ingestd explain " + code
		}
	}
	return ""
}

// runbook is what is to be known of one code or alert.
type runbook struct {
	section string // what it stands under
	name    string
	text    string
}

// runbooks are those of this version. Few commands need them: they are read at the first question.
var runbooks = sync.OnceValue(func() []runbook { return readRunbooks(docs.Runbooks) })

var (
	markdownLink    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	markdownComment = regexp.MustCompile(`(?m)^<!--.*-->\n`)
	markdownFence   = regexp.MustCompile("(?m)^```.*\n?")
	// A code or an alert is one word, in a heading of the third level; other words there group what follows.
	oneWord = regexp.MustCompile(`^[A-Za-z_]+$`)
)

// readRunbooks takes the page apart, and leaves of its Markdown what a terminal can show.
func readRunbooks(page string) []runbook {
	var all []runbook
	var section string
	for part := range strings.SplitSeq("\n"+page, "\n##") {
		heading, text, _ := strings.Cut(part, "\n")
		if name, ok := strings.CutPrefix(heading, "# "); !ok {
			section = strings.TrimSpace(heading)
		} else if !oneWord.MatchString(name) || strings.TrimSpace(text) == "" {
			section = name
		} else {
			for _, mark := range []*regexp.Regexp{markdownComment, markdownFence} {
				text = mark.ReplaceAllString(text, "")
			}
			all = append(all, runbook{section: section, name: name, text: strings.TrimSpace(markdownLink.ReplaceAllString(text, "$1"))})
		}
	}
	return all
}

func listRunbooks(out io.Writer, all []runbook) error {
	var b strings.Builder
	section := ""
	for _, r := range all {
		if r.section != section {
			if section != "" {
				b.WriteString("\n")
			}
			section = r.section
			b.WriteString(section + ":\n")
		}
		b.WriteString("  " + r.name + "\n")
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("list the runbooks: %w", err)
	}
	return nil
}
