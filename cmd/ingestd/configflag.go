package main

import (
	"errors"
	"fmt"
	"os"
	_ "time/tzdata"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
)

// addConfigFlag adds --config to a command.
func addConfigFlag(cmd *cobra.Command) *string {
	path := os.Getenv("INGESTD_CONFIG")
	if path == "" {
		path = "/etc/ingestd/ingestd.yaml"
	}
	return cmd.Flags().String("config", path, "the configuration `file`, or env:NAME for its text in a variable (INGESTD_CONFIG)")
}

// loadConfig reads a configuration; one that cannot be used is an error of usage, with a line for each problem.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	if problems, ok := errors.AsType[*config.Error](err); ok {
		return nil, usageError{fmt.Errorf("the configuration cannot be used: %s\n%w", count(len(problems.Problems), "problem"), err)}
	}
	return c, err
}
