package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
)

// addConfigFlag adds --config to a command.
func addConfigFlag(cmd *cobra.Command) *string {
	path := os.Getenv("INGESTD_CONFIG")
	if path == "" {
		path = "/etc/ingestd/ingestd.yaml"
	}
	return cmd.Flags().String("config", path, "the configuration file (INGESTD_CONFIG)")
}

// loadConfig reads a configuration; one that cannot be used is an error of usage.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	var problems *config.Error
	if errors.As(err, &problems) {
		return nil, usageError{err}
	}
	return c, err
}
