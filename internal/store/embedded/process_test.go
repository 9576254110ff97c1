package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// userOf names, to a copy of this test binary, the directory that it shall use until its input ends.
const userOf = "EMBEDDED_TEST_USER_OF"

func TestMain(m *testing.M) {
	dir := os.Getenv(userOf)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := use(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func use(dir string) error {
	ctx := context.Background()
	s, err := Start(ctx, Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	fmt.Println("up")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Stop(ctx)
}

// process is another process that uses the cluster.
type process struct {
	*exec.Cmd
	in io.Closer
}

func startProcess(t *testing.T, dir string) process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), userOf+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the other process said %q: %v", line, err)
	}
	return process{cmd, in}
}

func TestStart_uses_the_server_that_a_killed_process_left_behind(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	killed := startProcess(t, dir)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // killed
	data := &Server{data: filepath.Join(dir, "data")}
	before := pidOf(t, data)
	s := start(t, dir)
	if now := pidOf(t, s); now != before {
		t.Errorf("server %d was replaced by %d", before, now)
	}
	stop(t, s)
	if s.isServer(t.Context(), before) {
		t.Error("the last user left the server running")
	}
}

func TestStop_of_one_process_leaves_the_server_to_the_other(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	other := startProcess(t, dir)
	s := start(t, dir)
	pid := pidOf(t, s)
	stop(t, s)
	if err := s.answers(t.Context()); err != nil {
		t.Fatalf("the server was stopped under its other user: %v", err)
	}
	_ = other.in.Close()
	if err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	if s.isServer(t.Context(), pid) {
		t.Error("the last user left the server running")
	}
}

// events is a log handler that calls back by message.
type events map[string]func()

func (events) Enabled(context.Context, slog.Level) bool { return true }
func (e events) WithAttrs([]slog.Attr) slog.Handler     { return e }
func (e events) WithGroup(string) slog.Handler          { return e }
func (e events) Handle(_ context.Context, r slog.Record) error {
	if f := e[r.Message]; f != nil {
		f()
	}
	return nil
}

func TestStart_waits_for_an_abandoned_server_that_is_shutting_down(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	first := start(t, dir)
	pid := pidOf(t, first)
	conn, err := pgx.Connect(t.Context(), first.URL())
	if err != nil {
		t.Fatal(err)
	}
	_ = first.users.Close() // killed
	// A smart shutdown lets nobody in, and waits for the connection.
	if out, err := first.owner.command(t.Context(), first.bin.path("pg_ctl"), "stop", "-W", "-m", "smart", "-D", first.data).
		CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for first.answers(ctx) == nil {
		if err := pause(ctx); err != nil {
			t.Fatal(err)
		}
	}
	waiting := false
	second, err := Start(t.Context(), Options{Dir: dir, Logger: slog.New(events{
		"waiting for the Postgres that runs in the directory": func() {
			waiting = true
			_ = conn.Close(t.Context())
		},
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, second)
	if !waiting || pidOf(t, second) == pid {
		t.Errorf("waited: %v, server before %d, now %d", waiting, pid, pidOf(t, second))
	}
	if got := query(t, second, `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
}

func TestStart_that_fails_leaves_no_server_behind(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel) // after the parallel subtests
	for name, o := range map[string]Options{
		"a setting is wrong":     {Settings: map[string]string{"shared_buffers": "plenty"}},
		"the start is cancelled": {Logger: slog.New(events{"embedded Postgres started": cancel})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Dir = testDir(t)
			parent := t.Context()
			if o.Logger != nil {
				parent = ctx
			}
			s, err := Start(parent, o)
			if err == nil {
				stop(t, s)
				t.Fatal("started")
			}
			if o.Settings != nil && !strings.Contains(err.Error(), "shared_buffers") {
				t.Errorf("got %v, want what the server said", err)
			}
			if o.Logger != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the cancellation", err)
			}
			if _, err := os.Stat(filepath.Join(o.Dir, "data", "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a server is left running: %v", err)
			}
			start(t, o.Dir) // and nothing is broken
		})
	}
}

func TestReap_stops_abandoned_servers_only(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	if err := Reap(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a directory that is only begun: got %v, want ErrInUse", err)
	}
	s := start(t, dir)
	pid := pidOf(t, s)
	if err := Reap(t.Context(), dir); !errors.Is(err, ErrInUse) || s.answers(t.Context()) != nil {
		t.Errorf("a server in use: got %v, want ErrInUse and the server up", err)
	}
	_ = s.users.Close() // killed
	if err := Reap(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if s.isServer(t.Context(), pid) {
		t.Error("the abandoned server still runs")
	}
	if err := Reap(t.Context(), dir); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
