package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// defaultSettings are those of a small server that ingests: what differs from Postgres' own. Durability is left as it is.
var defaultSettings = map[string]string{
	"listen_addresses":        "",
	"unix_socket_permissions": "0700",
	"max_connections":         "100",
	"shared_buffers":          "256MB",
	"maintenance_work_mem":    "256MB",
	"max_wal_size":            "4GB",
	"checkpoint_timeout":      "15min",
	"wal_compression":         "on",
	"timezone":                "UTC",
	"log_timezone":            "UTC",
	"logging_collector":       "off",
	"jit":                     "off", // what it compiles is not what takes the time, and hardened services may not run it
	// Values of parameters and failed rows are PHI.
	"log_min_duration_statement":        "-1",
	"log_parameter_max_length":          "0",
	"log_parameter_max_length_on_error": "0",
	"log_error_verbosity":               "terse",
	"log_min_error_statement":           "panic",
}

// walMethods is the first version that can compress pages in the WAL otherwise than by its own method.
const walMethods = 15

const settingsFile = "ingestd.conf"

// clusterVersion reads the major version that a data directory was made by; "" where there is none.
func clusterVersion(data string) (string, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the cluster's version: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// initialize makes the cluster beside its place and moves it there, so that one that was cut off is never taken for whole.
// The encoding is UTF-8 and the collation C, which indexes ids fastest and never changes with the system's libraries.
// Connections by a network address are refused, should anybody make the server listen on one.
func (s *Server) initialize(ctx context.Context, o Options) error {
	temporary := s.data + ".new"
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	args := []string{
		"--pgdata", temporary, "--username", superuser, "--auth-local", "trust", "--auth-host", "reject",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions",
	}
	if o.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	out, err := s.owner.command(ctx, s.bin.path("initdb"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialize a Postgres cluster in %s: %w: %s", s.data, err, strings.TrimSpace(string(out)))
	}
	if err := appendTo(filepath.Join(temporary, "postgresql.conf"), "\ninclude '"+settingsFile+"'\n"); err != nil {
		return err
	}
	if err := os.Rename(temporary, s.data); err != nil {
		return fmt.Errorf("put the new cluster into its place: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.logger.InfoContext(ctx, "embedded Postgres initialized", "dir", s.dir)
	return nil
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

// syncDir makes a rename in a directory last.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// configure writes the settings into a file of their own, which postgresql.conf includes.
func (s *Server) configure(ctx context.Context, extra map[string]string) error {
	settings := maps.Clone(defaultSettings)
	settings["unix_socket_directories"], settings["port"] = s.socket, port
	if s.knowsLZ4(ctx) {
		settings["default_toast_compression"] = "lz4"
		if s.bin.major >= walMethods {
			// A publish that changes one row in a hundred writes nearly every page of its indexes whole, for the first time since the last
			// checkpoint: Postgres' own method takes longer over them than all else together.
			settings["wal_compression"] = "lz4"
		}
	}
	maps.Copy(settings, extra)
	var text strings.Builder
	text.WriteString("# Written by ingestd at each start: changes are lost. Add your own to postgresql.conf, below the include.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	path := filepath.Join(s.data, settingsFile)
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return s.owner.take(path)
}

// knowsLZ4 reports whether this Postgres was built with lz4, which compresses jsonb faster than its own method.
func (s *Server) knowsLZ4(ctx context.Context) bool {
	const setting = "default_toast_compression"
	// Without the settings of the cluster: those of another version may be refused.
	return s.owner.command(ctx, s.bin.path("postgres"), "-C", setting, "-c", setting+"=lz4", "-c", "config_file=/dev/null",
		"-D", s.data).Run() == nil
}

// ensureDatabase makes the database where it does not exist: a process may have been killed before it did.
func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect to the embedded Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, databaseName).Scan(&exists); err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{databaseName}.Sanitize()); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	return nil
}
