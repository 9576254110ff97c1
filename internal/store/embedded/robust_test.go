package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestStart_makes_the_directories_above_so_that_the_server_can_pass(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testDir(t), "var", "lib", "ingestd", "postgres")
	start(t, dir)
}

func TestStart_of_several_processes_at_once_in_a_new_directory_makes_one_cluster(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	const users = 3
	servers, errs := make([]*Server, users), make([]error, users)
	var all sync.WaitGroup
	for i := range users {
		all.Go(func() {
			servers[i], errs[i] = Start(t.Context(), Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("start %d: %v", i, err)
		}
	}
	for _, s := range servers {
		if s != nil {
			stop(t, s)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); err == nil {
		t.Error("the last user left the server running")
	}
}

func TestStart_makes_the_database_also_where_an_adopted_server_lacks_it(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	first := start(t, dir)
	conn, err := pgx.Connect(t.Context(), first.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `DROP DATABASE ingestd`); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	_ = first.users.Close() // killed before it made the database
	if got := query(t, start(t, dir), `SELECT current_database()::text`); got != databaseName {
		t.Errorf("got %q", got)
	}
}

func TestStop_twice_is_stop_once(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	s := start(t, dir)
	stop(t, s)
	stop(t, s)
	second := start(t, dir)
	stop(t, s) // of a server that this value no longer uses
	if got := query(t, second, `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
}

func TestStart_compresses_large_values_with_lz4_where_the_server_can(t *testing.T) {
	t.Parallel()
	s := start(t, testDir(t))
	got := query(t, s, `SELECT setting || ' of ' || array_to_string(enumvals, ' ') FROM pg_settings WHERE name = 'default_toast_compression'`)
	if strings.HasSuffix(got, "lz4") && !strings.HasPrefix(got, "lz4") {
		t.Errorf("default_toast_compression is %s", got)
	}
	got = query(t, s, `SELECT setting || ' of ' || array_to_string(enumvals, ' ') FROM pg_settings WHERE name = 'wal_compression'`)
	if strings.Contains(got, " lz4") && !strings.HasPrefix(got, "lz4") { // before version 15 it knows but on and off
		t.Errorf("wal_compression is %s", got)
	}
}

func TestStart_leaves_a_directory_of_something_else_alone(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	if err := os.WriteFile(filepath.Join(dir, "letters.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Start(t.Context(), Options{Dir: dir}); err == nil {
		stop(t, s)
		t.Fatal("started among files that are not its own")
	} else if !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want the directory named", err)
	}
	after, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ownerOf(before) != ownerOf(after) {
		t.Errorf("the directory's owner was %d, is %d", ownerOf(before), ownerOf(after))
	}
}

func TestStart_does_not_follow_a_link_that_lies_in_wait_for_the_socket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testDir(t), strings.Repeat("long", 25))
	s := &Server{dir: dir}
	trap := testDir(t)
	link := s.longSocketDir()
	if err := os.Symlink(trap, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(link) })
	if started, err := Start(t.Context(), Options{Dir: dir}); err == nil {
		stop(t, started)
		t.Fatal("the socket was put behind somebody's link")
	} else if !strings.Contains(err.Error(), link) {
		t.Errorf("got %v, want the link named", err)
	}
}
