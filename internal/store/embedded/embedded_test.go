package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// testDir is a directory that the server's user can reach, which t.TempDir is not for root.
func testDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, s *Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var text string
	if err := conn.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func pidOf(t *testing.T, s *Server) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestStart_keeps_data_over_a_restart_and_listens_on_no_network_address(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	first := start(t, dir)
	if got := query(t, first, `SELECT current_setting('listen_addresses')`); got != "" {
		t.Errorf("listens on %q", got)
	}
	query(t, first, `WITH made AS (SELECT set_config('a.b', 'c', false)) SELECT 'x' FROM made`)
	conn, err := pgx.Connect(t.Context(), first.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `CREATE TABLE kept AS SELECT 'here' AS v`); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	stop(t, first)
	if first.answers(t.Context()) == nil {
		t.Fatal("the server still answers after its last user stopped")
	}
	if got := query(t, start(t, dir), `SELECT v FROM kept`); got != "here" {
		t.Errorf("got %q", got)
	}
}

func TestStart_shares_a_running_server_and_the_last_user_stops_it(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	first := start(t, dir)
	second := start(t, dir)
	if pidOf(t, first) != pidOf(t, second) {
		t.Error("a second server was started")
	}
	stop(t, first)
	if err := second.answers(t.Context()); err != nil {
		t.Fatalf("the first user stopped the server under the second: %v", err)
	}
	stop(t, second)
	if second.answers(t.Context()) == nil {
		t.Error("the last user left the server running")
	}
}

func TestStart_recovers_after_the_server_was_killed(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	first := start(t, dir)
	pid := pidOf(t, first)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for first.isServer(t.Context(), pid) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // bounded by the deadline
	}
	second := start(t, dir)
	if got := query(t, second, `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
}

func TestStart_is_not_misled_by_a_stale_pid_file(t *testing.T) {
	t.Parallel()
	other := start(t, testDir(t))
	for name, pid := range map[string]int{
		"of no process":       1 << 22,
		"of another program":  os.Getpid(),
		"of another Postgres": pidOf(t, other),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := testDir(t)
			first := start(t, dir)
			stop(t, first)
			stale := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\n\n\n\n", pid, first.data, first.socket)
			if err := os.WriteFile(filepath.Join(first.data, "postmaster.pid"), []byte(stale), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := first.owner.take(filepath.Join(first.data, "postmaster.pid")); err != nil {
				t.Fatal(err)
			}
			start(t, dir)
		})
	}
}

func TestStart_begins_an_unfinished_initialization_again(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

func TestStart_works_where_the_path_is_too_long_for_a_socket(t *testing.T) {
	t.Parallel()
	s := start(t, filepath.Join(testDir(t), strings.Repeat("long", 25)))
	if got := query(t, s, `SELECT 'up'`); got != "up" || s.socket == s.dir {
		t.Errorf("got %q by a socket in %s", got, s.socket)
	}
	stop(t, s)
	if _, err := os.Stat(s.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's directory is left behind: %v", err)
	}
}

func TestStart_names_the_directory_that_the_server_cannot_reach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's server runs as another user")
	}
	closed := filepath.Join(testDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: filepath.Join(closed, "pg")})
	if err == nil || !strings.Contains(err.Error(), closed) || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("got %v, want the directory named and the fix", err)
	}
}

func TestStart_refuses_a_cluster_of_another_version(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "Postgres 9") {
		t.Errorf("got %v, want the version named", err)
	}
}

func TestNotInstalledError_says_which_package_to_install(t *testing.T) {
	saved := installations
	installations = nil
	t.Cleanup(func() { installations = saved })
	t.Setenv("PATH", t.TempDir())
	_, err := findBinaries(t.Context(), "")
	var missing *NotInstalledError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("got %v", err)
	}
}
