package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	logName = "postgres.log"
	// maxLog is the size, in bytes, from which a log is put aside when the server starts.
	maxLog = 16 << 20
	// connectTimeout bounds the question whether the server answers.
	connectTimeout = 5 * time.Second
)

// run returns when a server answers: one that runs already, after its recovery or, where it is shutting down, after its
// end and a new start; or a new one.
func (s *Server) run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, o.StartTimeout)
	defer cancel()
	waited := false
	for {
		found, err := s.running(ctx)
		if err != nil {
			return err
		}
		if found == nil {
			again, err := s.launch(ctx, o)
			if err == nil {
				s.logger.InfoContext(ctx, "embedded Postgres started", "dir", s.dir)
			}
			if !again {
				return err
			}
			if waitErr := pause(ctx); waitErr != nil {
				return fmt.Errorf("%w: %w", err, waitErr)
			}
			continue
		}
		err = errors.New("it has no socket yet")
		if found.socket != "" {
			s.socket = found.socket
			if err = s.answers(ctx); err == nil {
				s.logger.InfoContext(ctx, "embedded Postgres is already running: using it", "dir", s.dir, "pid", found.pid)
				return nil
			}
		}
		if !waited {
			waited = true
			s.logger.WarnContext(ctx, "waiting for the Postgres that runs in the directory", "dir", s.dir, "pid", found.pid, "error", err)
		}
		if pause(ctx) != nil {
			return fmt.Errorf("the Postgres that runs in %s (pid %d) does not answer: %w", s.data, found.pid, err)
		}
	}
}

// launch starts the server and waits until it answers. It asks for another try where the last server was killed and its
// children still hold its memory, which takes a moment.
func (s *Server) launch(ctx context.Context, o Options) (again bool, err error) {
	if err := s.makeSocketDir(); err != nil {
		return false, err
	}
	if err := s.removeStalePIDs(ctx); err != nil {
		return false, err
	}
	if err := s.configure(ctx, o.Settings); err != nil {
		return false, err
	}
	log := filepath.Join(s.dir, logName)
	before := rotate(log)
	out, err := s.owner.command(ctx, s.bin.path("pg_ctl"), "start", "-w", "-s", "-D", s.data, "-l", log,
		"-t", strconv.Itoa(int(o.StartTimeout.Seconds()))).CombinedOutput()
	if err == nil {
		return false, nil
	}
	said := readFrom(log, before)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return strings.Contains(said, "shared memory block"),
		fmt.Errorf("start Postgres in %s: %w: %s%s (all of it in %s)", s.data, err, out, strings.TrimSpace(said), log)
}

// rotate puts a log aside that has grown long, and returns the size of the one that is left.
func rotate(log string) int64 {
	info, err := os.Stat(log)
	if err != nil {
		return 0
	}
	if info.Size() > maxLog && os.Rename(log, log+".1") == nil {
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

// answers connects to the server, and returns why that fails.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect to the embedded Postgres: %w", err)
	}
	if err := conn.Close(ctx); err != nil {
		return fmt.Errorf("connect to the embedded Postgres: %w", err)
	}
	return nil
}

// halt stops the server, if one runs, in a mode of pg_ctl, and removes the socket's directory where it has one of its own.
func (s *Server) halt(ctx context.Context, mode string) error {
	found, err := s.running(ctx)
	if err != nil {
		return err
	}
	if found != nil {
		if found.socket != "" {
			s.socket = found.socket
		}
		out, err := s.owner.command(ctx, s.bin.path("pg_ctl"), "stop", "-w", "-s", "-m", mode, "-D", s.data).CombinedOutput()
		if err != nil {
			return fmt.Errorf("stop Postgres in %s: %w: %s", s.data, err, strings.TrimSpace(string(out)))
		}
	}
	if s.socket != "" && s.socket != s.dir {
		_ = os.Remove(s.socket) // empty now; what is left of it is used at the next start
	}
	return nil
}
