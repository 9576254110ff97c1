package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

type lockKind int

const (
	shared    lockKind = syscall.LOCK_SH
	exclusive lockKind = syscall.LOCK_EX
)

const (
	// startLock is held while the server is started or stopped.
	startLock = "start.lock"
	// usersLock is held, shared, by each process that uses the server.
	usersLock = "users.lock"
)

// lock takes a lock on a file of the directory, which it makes; closing the file frees it, and so does the end of the
// process.
func (s *Server) lock(ctx context.Context, name string, kind lockKind) (*os.File, error) {
	for {
		f, err := s.tryLock(name, kind)
		if !errors.Is(err, ErrInUse) {
			return f, err
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("wait for %s in %s: %w", name, s.dir, err)
		}
	}
}

// tryLock is lock without the wait: ErrInUse where another process holds the lock.
func (s *Server) tryLock(name string, kind lockKind) (*os.File, error) {
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := s.owner.takeFile(f); err != nil { // ingestd may later run as that user itself
		_ = f.Close()
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), int(kind)|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrInUse
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// pause waits between two looks at something.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
