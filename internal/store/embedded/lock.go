package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type lockKind int

const (
	shared    lockKind = syscall.LOCK_SH
	exclusive lockKind = syscall.LOCK_EX
)

var errInUse = errors.New("in use by another process")

// lockFile takes a lock on a file, which it makes; closing the file frees it, and so does the end of the process.
func lockFile(ctx context.Context, path string, kind lockKind) (*os.File, error) {
	for {
		f, err := tryLock(path, kind)
		if !errors.Is(err, errInUse) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLockFile takes the file's lock for itself alone; errInUse where others share it.
func tryLockFile(path string) (*os.File, error) { return tryLock(path, exclusive) }

func tryLock(path string, kind lockKind) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	err = syscall.Flock(int(f.Fd()), int(kind)|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errInUse
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// removeStalePIDs removes the pid files of a server that is gone, where the pid now belongs to no process, to a zombie or
// to another program: Postgres itself would take any process of that pid for the old server, and refuse to start.
func (s *Server) removeStalePIDs() error {
	for _, path := range []string{
		filepath.Join(s.data, "postmaster.pid"),
		filepath.Join(s.socket, ".s.PGSQL."+port+".lock"),
	} {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the server's pid: %w", err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err == nil && isPostgres(pid) {
			continue // it runs, or is starting or stopping: pg_ctl waits for it
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove a stale pid file: %w", err)
		}
		s.logger.Warn("removed the pid file of a Postgres that is gone", "file", filepath.Base(path))
	}
	return nil
}

// isPostgres reports whether the process is a Postgres server. Where /proc does not say, any live process counts.
func isPostgres(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !procMounted()
	}
	program, _, _ := bytes.Cut(command, []byte{0})
	name := filepath.Base(string(program))
	return strings.HasPrefix(name, "postgres") || strings.HasPrefix(name, "postmaster")
}

func procMounted() bool {
	_, err := os.Stat("/proc/self")
	return err == nil
}
