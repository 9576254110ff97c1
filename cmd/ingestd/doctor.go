package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/smartauth"
)

// doctorsAtOnce is how many payers are examined at once; their findings are printed in the configuration's order.
const doctorsAtOnce = 8

func newDoctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [PAYER]",
		Short: "Look live at what each payer needs: DNS, TLS, clocks, keys, a token, its capabilities",
		Long: `Looks at a payer as an export would meet it, or at all enabled payers: does its name resolve, is its certificate valid and
for how long, do the clocks agree, where is its token endpoint, does jwks.url serve the key that signs to everybody, is a
token issued, and for which scopes, what does the server say that it exports, in which version of the guide and with which
parameters, and does it take the token: that is tried by reading a resource that does not exist, which costs the payer one
look-up. No export is started, and no database is needed. Each line is ok, warn or fail, with what to do about it; the exit code
is 1 if any fails.`,
		Example: `  ingestd doctor --config /etc/ingestd/ingestd.yaml
  ingestd doctor bluecross --output json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s: expected one payer, or none for all of them", cmd.CommandPath())
			}
			return nil
		},
	}
	path := addConfigFlag(cmd)
	output := addOutput(cmd, formatText, formatJSON, formatCSV)
	cmd.ValidArgsFunction = completePayers(path)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		payers, err := payersToExamine(c, args)
		if err != nil {
			return err
		}
		doctor, err := daemon.NewDoctor(cmd.Context(), daemon.DoctorOptions{Options: daemon.Options{Config: c}})
		if err != nil {
			return err
		}
		defer doctor.Close()
		examined, err := examine(cmd.Context(), doctor, payers)
		if err != nil {
			return err
		}
		return printExamined(cmd.OutOrStdout(), examined, output.value)
	}
	return cmd
}

// payersToExamine are the payers to examine: the one that is named, also if it is disabled, or all enabled ones.
func payersToExamine(c *config.Config, args []string) ([]config.Payer, error) {
	if len(args) == 0 {
		enabled := slices.DeleteFunc(slices.Clone(c.Payers), func(p config.Payer) bool { return !p.Enabled })
		if len(enabled) == 0 {
			return nil, usageError{errors.New("the configuration has no enabled payer")}
		}
		return enabled, nil
	}
	for _, p := range c.Payers {
		if p.Name == args[0] {
			return []config.Payer{p}, nil
		}
	}
	return nil, usageError{fmt.Errorf("the configuration has no payer %q", args[0])}
}

// examinedPayer is a payer with what was found.
type examinedPayer struct {
	Payer    string              `json:"payer"`
	Findings []smartauth.Finding `json:"findings"`
}

func examine(ctx context.Context, doctor *daemon.Doctor, payers []config.Payer) ([]examinedPayer, error) {
	examined := make([]examinedPayer, len(payers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(doctorsAtOnce)
	for i, p := range payers {
		group.Go(func() error {
			examined[i] = examinedPayer{Payer: p.Name, Findings: doctor.Examine(ctx, p)}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("examine the payers: %w", err)
	}
	return examined, nil
}

// printExamined prints all findings; the error says that some failed.
func printExamined(out io.Writer, examined []examinedPayer, output string) error {
	failed := 0
	for _, e := range examined {
		if slices.ContainsFunc(e.Findings, func(f smartauth.Finding) bool { return f.Level == smartauth.LevelFail }) {
			failed++
		}
	}
	if err := printFindings(out, examined, output); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d payer(s) cannot be exported as they stand", failed, len(examined))
	}
	return nil
}

// payerFinding is a finding with its payer, for CSV.
type payerFinding struct {
	Payer string `json:"payer"`
	smartauth.Finding
}

func printFindings(out io.Writer, examined []examinedPayer, output string) error {
	var text strings.Builder
	switch output {
	case formatJSON:
		return printJSON(out, examined)
	case formatCSV:
		var findings []payerFinding
		for _, e := range examined {
			for _, f := range e.Findings {
				findings = append(findings, payerFinding{e.Payer, f})
			}
		}
		return printCSV(out, findings)
	}
	for i, e := range examined {
		if i > 0 {
			text.WriteByte('\n')
		}
		writeFindings(&text, e)
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("print the findings: %w", err)
	}
	return nil
}

func writeFindings(text *strings.Builder, e examinedPayer) {
	fmt.Fprintln(text, e.Payer)
	for _, f := range e.Findings {
		fmt.Fprintf(text, "  %-4s  %-10s  %s\n", f.Level, f.Check, printable(f.Detail))
		if f.Fix != "" {
			fmt.Fprintf(text, "  %-4s  %-10s  → %s\n", "", "", printable(f.Fix))
		}
	}
}
