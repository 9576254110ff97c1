package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// healthcheckTimeout is below the timeouts that container platforms give a health check.
const healthcheckTimeout = 3 * time.Second

func newHealthcheckCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the daemon on this host whether it is healthy; for container health checks",
		Args:  cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it can work, which needs the database, instead of whether it runs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		endpoint := "healthz"
		if ready {
			endpoint = "readyz"
		}
		return checkHealth(cmd.Context(), c.Admin.Listen, endpoint)
	}
	return cmd
}

func checkHealth(ctx context.Context, listen, endpoint string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return usageError{fmt.Errorf("admin.listen %q: expected host:port, which the health check needs", listen)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/"+endpoint, nil)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", endpoint, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("the daemon does not answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", endpoint, response.Status)
	}
	return nil
}
