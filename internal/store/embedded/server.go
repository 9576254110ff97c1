package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options say where the cluster is and how it runs.
type Options struct {
	// Dir holds the cluster (Dir/data), its log and its socket. It is made where it does not exist.
	Dir string
	// Settings are added to postgresql.conf's, and win over the package's own.
	Settings map[string]string
	Logger   *slog.Logger
	// StartTimeout bounds the wait for a server that recovers from a crash; 60 s if 0.
	StartTimeout time.Duration
}

// Server is a running cluster, as one of perhaps several users of it.
type Server struct {
	dir, data, socket string
	bin               binaries
	owner             owner
	users             *os.File // holds a shared lock as long as this process uses the server
	logger            *slog.Logger
}

const (
	databaseName = "ingestd"
	superuser    = "ingestd"
	// port only names the socket: the server listens on no network address.
	port = "5432"
)

// defaultSettings are those of a small server that ingests: what differs from Postgres' own. Durability is left as it is.
var defaultSettings = map[string]string{
	"listen_addresses":           "''",
	"unix_socket_permissions":    "0700",
	"max_connections":            "100",
	"shared_buffers":             "256MB",
	"max_wal_size":               "4GB",
	"checkpoint_timeout":         "15min",
	"wal_compression":            "on",
	"timezone":                   "UTC",
	"log_timezone":               "UTC",
	"logging_collector":          "off",
	"log_min_duration_statement": "-1",
	// Values of parameters and failed rows are PHI.
	"log_parameter_max_length":          "0",
	"log_parameter_max_length_on_error": "0",
	"log_error_verbosity":               "terse",
	"log_min_error_statement":           "panic",
}

// Start starts the cluster in o.Dir, or uses the one that already runs there. The directory is initialized first where it
// is new; an initialization that was cut off is begun again.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = time.Minute
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded:%s: %w", o.Dir, err)
	}
	s := &Server{dir: dir, data: filepath.Join(dir, "data"), logger: o.Logger}
	version, err := clusterVersion(s.data)
	if err != nil {
		return nil, err
	}
	if s.bin, err = findBinaries(version); err != nil {
		return nil, err
	}
	if s.owner, err = findOwner(); err != nil {
		return nil, err
	}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	// Starting and stopping are exclusive; using is shared.
	gate, err := lockFile(ctx, filepath.Join(dir, "start.lock"), exclusive)
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	if s.users, err = lockFile(ctx, filepath.Join(dir, "users.lock"), shared); err != nil {
		return nil, err
	}
	if err := s.start(ctx, o, version != ""); err != nil {
		_ = s.users.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, o Options, initialized bool) error {
	if !initialized {
		if err := s.initialize(ctx); err != nil {
			return err
		}
	}
	if err := s.configure(o.Settings); err != nil {
		return err
	}
	if s.answers(ctx) == nil {
		s.logger.InfoContext(ctx, "embedded Postgres is already running: using it", "dir", s.dir)
		return nil
	}
	if err := s.removeStalePIDs(); err != nil {
		return err
	}
	if err := s.launch(ctx, o.StartTimeout); err != nil {
		return err
	}
	if err := s.ensureDatabase(ctx); err != nil {
		return err
	}
	s.logger.InfoContext(ctx, "embedded Postgres started", "dir", s.dir)
	return nil
}

// launch starts the server and waits until it answers. Where the last server was killed, its children may hold its memory
// for a moment longer; the start is then repeated.
func (s *Server) launch(ctx context.Context, timeout time.Duration) error {
	log := filepath.Join(s.dir, "postgres.log")
	seconds := strconv.Itoa(int(timeout.Seconds()))
	deadline := time.Now().Add(timeout)
	for {
		before := fileSize(log)
		out, err := s.owner.command(ctx, s.bin.path("pg_ctl"), "start", "-w", "-t", seconds, "-s", "-D", s.data, "-l", log).CombinedOutput()
		if err == nil || s.answers(ctx) == nil {
			return nil
		}
		said := readFrom(log, before)
		if !strings.Contains(said, "shared memory block") || time.Now().After(deadline) {
			return fmt.Errorf("start Postgres in %s: %w: %s: %s (all of it in %s)", s.data, err, strings.TrimSpace(string(out)),
				strings.TrimSpace(said), log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start Postgres in %s: %w", s.data, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// readFrom returns what stands in a log behind an offset, at most 4 KiB of it.
func readFrom(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	text := make([]byte, 4<<10)
	n, _ := f.ReadAt(text, offset) // what there is of it
	return string(text[:n])
}

// URL is the connection string of the cluster's database. It holds no secret.
func (s *Server) URL() string { return s.url(databaseName) }

func (s *Server) url(database string) string {
	query := url.Values{"host": {s.socket}, "port": {port}, "user": {superuser}}
	return "postgres:///" + database + "?" + query.Encode()
}

// Stop ends this process's use of the cluster, and stops the server where nobody else uses it. Open connections are cut.
func (s *Server) Stop(ctx context.Context) error {
	gate, err := lockFile(ctx, filepath.Join(s.dir, "start.lock"), exclusive)
	if err != nil {
		return err
	}
	defer gate.Close()
	_ = s.users.Close()
	others, err := tryLockFile(filepath.Join(s.dir, "users.lock"))
	if errors.Is(err, errInUse) {
		return nil
	}
	if err != nil {
		return err
	}
	defer others.Close()
	out, err := s.owner.command(ctx, s.bin.path("pg_ctl"), "stop", "-w", "-s", "-m", "fast", "-D", s.data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("stop Postgres in %s: %w: %s", s.data, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// makeDir makes the directory, gives it to the user that the server runs as, and picks the socket's directory.
func (s *Server) makeDir() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the embedded Postgres: %w", err)
	}
	if err := s.owner.take(s.dir); err != nil {
		return err
	}
	if err := s.owner.reaches(s.dir); err != nil {
		return err
	}
	// The path of a socket has about 100 bytes at most (sun_path): a long one goes to the temporary directory.
	s.socket = s.dir
	if len(filepath.Join(s.dir, ".s.PGSQL."+port)) > 90 {
		sum := sha256.Sum256([]byte(s.dir))
		s.socket = filepath.Join(os.TempDir(), "ingestd-"+hex.EncodeToString(sum[:6]))
		if err := os.MkdirAll(s.socket, 0o700); err != nil {
			return fmt.Errorf("make the directory of the socket: %w", err)
		}
		if err := s.owner.take(s.socket); err != nil {
			return err
		}
	}
	return nil
}

// initialize makes the cluster beside its place and moves it there, so that one that was cut off is never taken for whole.
// The encoding is UTF-8 and the collation C, which indexes ids fastest and never changes with the system's libraries.
func (s *Server) initialize(ctx context.Context) error {
	temporary := s.data + ".new"
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	out, err := s.owner.command(ctx, s.bin.path("initdb"), "--pgdata", temporary, "--username", superuser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialize a Postgres cluster in %s: %w: %s", s.data, err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(temporary, s.data); err != nil {
		return fmt.Errorf("put the new cluster into its place: %w", err)
	}
	s.logger.InfoContext(ctx, "embedded Postgres initialized", "dir", s.dir)
	return nil
}

// configure writes the settings into a file of their own, which postgresql.conf includes.
func (s *Server) configure(extra map[string]string) error {
	settings := make(map[string]string, len(defaultSettings)+len(extra)+1)
	for _, source := range []map[string]string{defaultSettings, {"unix_socket_directories": quoteSetting(s.socket), "port": port}, extra} {
		maps.Copy(settings, source)
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	var text strings.Builder
	text.WriteString("# Written by ingestd at each start: changes are lost. Add your own to postgresql.conf, below the include.\n")
	for _, name := range names {
		fmt.Fprintf(&text, "%s = %s\n", name, settings[name])
	}
	own := filepath.Join(s.data, "ingestd.conf")
	if err := os.WriteFile(own, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	if err := s.owner.take(own); err != nil {
		return err
	}
	main := filepath.Join(s.data, "postgresql.conf")
	const include = "\ninclude 'ingestd.conf'\n"
	existing, err := os.ReadFile(main)
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	if strings.Contains(string(existing), include) {
		return nil
	}
	if err := os.WriteFile(main, append(existing, include...), 0o600); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

func quoteSetting(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// answers reports whether a server answers on the cluster's socket.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

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
