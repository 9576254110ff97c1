package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/ops"
)

// completionTimeout bounds what a shell waits for the numbers of exports.
const completionTimeout = 2 * time.Second

// completion is what cobra asks for the values of an argument.
type completion = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// completePayers completes the first argument by the names of the configured payers.
func completePayers(path *string) completion {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return payerNames(*path), cobra.ShellCompDirectiveNoFileComp
	}
}

// completePayerFlag completes --payer.
func completePayerFlag(cmd *cobra.Command, path *string) {
	err := cmd.RegisterFlagCompletionFunc("payer", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return payerNames(*path), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // a command without the flag
	}
}

func payerNames(path string) []string {
	c, err := config.Load(path)
	if err != nil {
		return nil
	}
	names := make([]string, len(c.Payers))
	for i, p := range c.Payers {
		names[i] = p.Name
	}
	return names
}

// completeExports completes the first argument by the numbers of the newest exports in some states, or in any. It starts no embedded
// Postgres for that.
func completeExports(flags controlFlags, states ...string) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if *flags.server == "" {
			c, err := config.Load(*flags.config)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			if _, embedded := config.Embedded(string(c.Database.URL)); embedded {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		cmd.SetContext(ctx)
		var numbers []string
		err := withControl(cmd, flags, func(c control) error {
			exports, err := c.Exports(ctx, ops.ExportFilter{Limit: 100})
			for _, x := range exports {
				if len(states) == 0 || slices.Contains(states, x.State) {
					numbers = append(numbers, fmt.Sprintf("%d\t%s %s, %s", x.ExportID, x.Payer, x.Kind, x.State))
				}
			}
			return err
		})
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		return numbers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
