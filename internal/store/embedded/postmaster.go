package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// postmaster is what postmaster.pid says of a server.
type postmaster struct {
	pid    int
	socket string // directory; "" until the server has made its socket
}

// Lines of postmaster.pid, from 0 (src/include/utils/pidfile.h).
const (
	pidLine       = 0
	socketDirLine = 4
)

// running returns the server that runs in the cluster, starting and stopping ones included; nil where none does.
func (s *Server) running(ctx context.Context) (*postmaster, error) {
	text, err := os.ReadFile(s.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's pid: %w", err)
	}
	lines := strings.Split(string(text), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(lines[pidLine])) // 0 where a crash of the machine left no number
	if pid <= 0 || !s.isServer(ctx, pid) {
		return nil, nil // a stale file, of a server that was killed
	}
	p := &postmaster{pid: pid}
	if len(lines) > socketDirLine && filepath.IsAbs(lines[socketDirLine]) {
		p.socket = lines[socketDirLine]
	}
	return p, nil
}

func (s *Server) pidFile() string { return filepath.Join(s.data, "postmaster.pid") }

// isServer reports whether a process is a server of this cluster, and not another program that was given the pid of one
// that is gone: all processes of a server stand in its data directory. Zombies stand nowhere.
func (s *Server) isServer(ctx context.Context, pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		return isPostgres(ctx, pid)
	}
	at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	data, err := os.Stat(s.data)
	return err == nil && os.SameFile(at, data)
}

// isPostgres asks ps for the program of a process, where there is no /proc.
func isPostgres(ctx context.Context, pid int) bool {
	name, err := exec.CommandContext(ctx, "ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
	return err == nil && strings.HasPrefix(filepath.Base(string(bytes.TrimSpace(name))), "postgres")
}

// removeStalePIDs removes the pid files of a server that is gone. Postgres itself would take any process that now has the
// pid for the old server, and refuse to start.
func (s *Server) removeStalePIDs(ctx context.Context) error {
	for _, path := range []string{s.pidFile(), filepath.Join(s.socket, ".s.PGSQL."+port+".lock")} {
		err := os.Remove(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("remove a stale pid file: %w", err)
		}
		s.logger.WarnContext(ctx, "removed the pid file of a Postgres that is gone", "pid_file", path)
	}
	return nil
}
