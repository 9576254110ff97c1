package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
)

func newSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Long: `Prints the JSON Schema (draft 2020-12) of the configuration file of this version. With the YAML language server, the first
line of a configuration names it:

  # yaml-language-server: $schema=./ingestd.schema.json`,
		Example: `  ingestd schema > ingestd.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(schema); err != nil {
				return fmt.Errorf("print the schema: %w", err)
			}
			return nil
		},
	}
}
