package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/term"

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
checkpoints.

SIGHUP reads the configuration again and goes over to it, without a restart; one with a mistake is refused whole. With
reload.watch, changed files do the same. Under systemd, with Type=notify-reload, it tells when it is ready, reloads and stops,
and keeps the watchdog quiet.`,
		Args: cobra.NoArgs,
	}
	path := addConfigFlag(cmd)
	cmd.Flags().BoolVar(&skipMigrations, "skip-migrations", false, "do not migrate the database; fail if it needs to be")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// From the first moment on: a SIGHUP that nobody waits for ends the process.
		hangups := make(chan os.Signal, 1) // one that waits stands for all that follow
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		c, err := loadConfig(*path)
		if err != nil {
			return err
		}
		return serve(cmd.Context(), c, *path, cmd.ErrOrStderr(), skipMigrations, hangups)
	}
	return cmd
}

func serve(ctx context.Context, c *config.Config, path string, stderr io.Writer, skipMigrations bool, hangups <-chan os.Signal) error {
	logger, level := newLeveledLogger(stderr, c.Log)
	logLibraries(logger)
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		logger.WarnContext(ctx, "WATCHDOG_USEC cannot be read: the watchdog is not answered", "error", err)
	}
	logger.InfoContext(ctx, "ingestd starts", "version", buildVersion(), "payers", len(c.Payers))
	d, err := daemon.Open(ctx, daemon.Options{
		Config: c, Logger: logger, Version: buildVersion(), Host: hostName(), SkipMigrations: skipMigrations, Wait: true,
		Load: func() (*config.Config, error) { return config.Load(path) }, Hangups: hangups, Level: level,
		Notify: notifier(ctx, logger), Watchdog: watchdog, ECSAgent: os.Getenv("ECS_AGENT_URI"),
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

// notifier tells systemd of changes of state; without NOTIFY_SOCKET, nobody.
func notifier(ctx context.Context, logger *slog.Logger) func(state string, stamped bool) {
	return func(state string, stamped bool) {
		if stamped {
			state += "\n" + strings.TrimSpace(systemd.SdNotifyMonotonicUsec())
		}
		if _, err := systemd.SdNotify(false, state); err != nil {
			logger.DebugContext(ctx, "systemd cannot be told", "error", err)
		}
	}
}

// newLogger returns the logger that the configuration asks for.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	logger, _ := newLeveledLogger(w, c)
	return logger
}

// newLeveledLogger is newLogger, with the level to change.
func newLeveledLogger(w io.Writer, c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(daemon.LevelOf(c))
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if c.Format == "text" || c.Format == config.LogAuto && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options)), level
	}
	return slog.New(slog.NewJSONHandler(w, options)), level
}

// readable writes durations as 1m30s in JSON too, where slog would write nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// isTerminal reports whether people read what is written.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
