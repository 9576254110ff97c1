package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options say where the cluster is and how it runs.
type Options struct {
	// Dir holds the cluster, its log and its socket. It is made where it does not exist.
	Dir string
	// Settings are added to postgresql.conf's, unquoted, and win over the package's own. They take effect when the server
	// starts; one that runs already keeps those that it has.
	Settings map[string]string
	Logger   *slog.Logger
	// StartTimeout bounds the wait for a server that starts, which takes long after a crash; 10 minutes if 0.
	StartTimeout time.Duration
}

const (
	databaseName = "ingestd"
	superuser    = "ingestd"
	// port only names the socket: the server listens on no network address.
	port = "5432"

	defaultStartTimeout = 10 * time.Minute
	// abandonTimeout bounds the stop of a server whose start failed.
	abandonTimeout = 30 * time.Second
	// pollInterval is between two looks at a server or lock that one waits for.
	pollInterval = 50 * time.Millisecond
)

// ErrInUse says that another process uses the cluster.
var ErrInUse = errors.New("in use by another process")

// Server is a running cluster, as one of perhaps several users of it.
type Server struct {
	dir, data, socket string
	bin               binaries
	owner             owner
	logger            *slog.Logger

	mu    sync.Mutex
	users *os.File // holds the shared lock as long as this process uses the server; nil before and after
}

// Start starts the cluster in o.Dir, or uses the one that already runs there. The directory is initialized first where it
// is new; an initialization that was cut off is begun again. What fails to start is stopped before Start returns.
//
// A *NotInstalledError says that there is no Postgres on this machine.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = defaultStartTimeout
	}
	s, err := open(o.Dir, o.Logger)
	if err != nil {
		return nil, err
	}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	gate, err := s.lock(ctx, startLock, exclusive)
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	if s.users, err = s.lock(ctx, usersLock, shared); err != nil {
		return nil, err
	}
	if err := s.start(ctx, o); err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
		defer cancel()
		return nil, errors.Join(err, s.leave(stopping))
	}
	return s, nil
}

// open describes the cluster in a directory, without touching it.
func open(dir string, logger *slog.Logger) (*Server, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("embedded:%s: %w", dir, err)
	}
	// The server's user must be able to pass the real path, not a link that only we can follow.
	if resolved, err := filepath.EvalSymlinks(absolute); err == nil {
		absolute = resolved
	}
	s := &Server{dir: absolute, data: filepath.Join(absolute, "data"), logger: logger}
	s.owner, err = findOwner(s.data)
	if err != nil {
		return nil, fmt.Errorf("embedded:%s: %w", absolute, err)
	}
	return s, nil
}

// start runs under the start lock: nothing else of ours starts or stops the server meanwhile.
func (s *Server) start(ctx context.Context, o Options) error {
	version, err := clusterVersion(s.data)
	if err != nil {
		return err
	}
	if s.bin, err = findBinaries(ctx, version); err != nil {
		return fmt.Errorf("embedded:%s: %w", s.dir, err)
	}
	if version == "" {
		if err := s.initialize(ctx, o); err != nil {
			return err
		}
	}
	if err := s.run(ctx, o); err != nil {
		return err
	}
	return s.ensureDatabase(ctx)
}

// URL is the connection string of the cluster's database, ingestd. It holds no secret.
func (s *Server) URL() string { return s.url(databaseName) }

func (s *Server) url(database string) string {
	query := url.Values{"host": {s.socket}, "port": {port}, "user": {superuser}}
	return "postgres:///" + database + "?" + query.Encode()
}

// Stop ends this process's use of the cluster, and stops the server where nobody else uses it: open connections are cut
// and their transactions rolled back. A second Stop does nothing; one that failed may be repeated.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		return nil
	}
	gate, err := s.lock(ctx, startLock, exclusive)
	if err != nil {
		return err
	}
	defer gate.Close()
	return s.leave(ctx)
}

// leave gives the shared lock back under the start lock, and stops the server where no other process holds one.
func (s *Server) leave(ctx context.Context) error {
	if err := s.users.Close(); err != nil && !errors.Is(err, os.ErrClosed) { // closed where an earlier stop failed
		return fmt.Errorf("unlock %s: %w", usersLock, err)
	}
	alone, err := s.tryLock(usersLock, exclusive)
	if errors.Is(err, ErrInUse) {
		s.users = nil
		return nil
	}
	if err != nil {
		return err
	}
	defer alone.Close()
	if err := s.halt(ctx, "fast"); err != nil {
		return err
	}
	s.users = nil
	return nil
}

// Reap stops the server that a killed process left behind in dir, at once and without a checkpoint, for a directory that is
// about to be removed. It returns ErrInUse where a process uses the cluster or has only begun to make it.
func Reap(ctx context.Context, dir string) error {
	s, err := open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, name := range []string{startLock, usersLock} {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); err != nil {
			return ErrInUse
		}
		held, err := s.tryLock(name, exclusive)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	version, err := clusterVersion(s.data)
	if err != nil || version == "" {
		return err
	}
	if s.bin, err = findBinaries(ctx, version); err != nil {
		return err
	}
	return s.halt(ctx, "immediate")
}
