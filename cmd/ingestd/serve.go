package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
)

func newServeCommand() *cobra.Command {
	var skipMigrations bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon: exports on their schedules, health, metrics and status",
		Long: `Runs until SIGTERM or SIGINT. It then takes no new work, lets running loads reach their next checkpoint and exits
within shutdown.grace; a second signal ends it at once. Nothing is lost either way: any instance goes on from the
checkpoints.`,
		Args: cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().BoolVar(&skipMigrations, "skip-migrations", false, "do not migrate the database; fail if it needs to be")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		return serve(cmd.Context(), c, cmd.ErrOrStderr(), skipMigrations)
	}
	return cmd
}

func serve(ctx context.Context, c *config.Config, stderr io.Writer, skipMigrations bool) error {
	logger := newLogger(stderr, c.Log)
	logger.InfoContext(ctx, "ingestd starts", "version", buildVersion(), "payers", len(c.Payers))
	d, err := daemon.Open(ctx, daemon.Options{
		Config: c, Logger: logger, Version: buildVersion(), Host: hostName(), SkipMigrations: skipMigrations, Wait: true,
	})
	if err != nil {
		return err
	}
	defer d.Close(ctx)
	if err := d.Run(ctx); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	logger.InfoContext(ctx, "ingestd ends")
	return nil
}

// newLogger returns the logger that the configuration asks for.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the configuration was checked; a programmatic one may leave it out
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
