//go:build faults

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// cluster is a Postgres of a test's own, which it can restart, cut off and replace. It listens on a port of loopback.
type cluster struct {
	t         *testing.T
	dir, data string
	port      int
	account   *syscall.Credential // nil: this user
}

const clusterUser = "ingestd"

// newCluster makes a cluster in a new directory and starts it. A directory that is given is its home instead, such as a small disk.
func newCluster(t *testing.T, home string, settings ...string) *cluster {
	t.Helper()
	c := makeCluster(t, home)
	c.pg("initdb", "-D", c.data, "-U", clusterUser, "--auth=trust", "--encoding=UTF8", "--no-sync", "--wal-segsize=1")
	c.append("postgresql.conf", append([]string{
		"listen_addresses = '127.0.0.1'", "port = " + strconv.Itoa(c.port), "unix_socket_directories = ''", "max_connections = 100",
		"shared_buffers = 32MB", "log_min_messages = fatal",
	}, settings...)...)
	c.start()
	return c
}

// makeCluster prepares the directory and the user of a cluster, and stops what runs there at the end of the test.
func makeCluster(t *testing.T, home string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: home, port: freePort(t)}
	if home == "" {
		// One that the server's user can reach, which t.TempDir as root is not.
		var err error
		if c.dir, err = os.MkdirTemp("", "cluster-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(c.dir) })
	}
	c.data = filepath.Join(c.dir, "data")
	if os.Geteuid() == 0 {
		account, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.ParseUint(account.Uid, 10, 32)
		gid, _ := strconv.ParseUint(account.Gid, 10, 32)
		c.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(c.dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = c.command("pg_ctl", "stop", "-D", c.data, "-m", "immediate", "-w").Run() })
	return c
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// program finds one of Postgres' programs, of the newest version that is installed.
func program(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	return name
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(program(name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.account}
	return cmd
}

// pg runs a program of Postgres.
func (c *cluster) pg(name string, args ...string) {
	c.t.Helper()
	output, err := os.CreateTemp("", "pg-")
	if err != nil {
		c.t.Fatal(err)
	}
	defer os.Remove(output.Name())
	defer output.Close()
	cmd := c.command(name, args...)
	cmd.Stdout, cmd.Stderr = output, output // a file: the server that it starts holds what it was given open
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(output.Name())
		c.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, said, c.log())
	}
}

func (c *cluster) log() string {
	said, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	return string(said)
}

func (c *cluster) append(file string, lines ...string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.data, file), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	for _, line := range lines {
		if _, err := fmt.Fprintln(f, line); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) start() {
	c.t.Helper()
	c.pg("pg_ctl", "start", "-D", c.data, "-w", "-t", "120", "-l", filepath.Join(c.dir, "log"))
}

func (c *cluster) stop(mode string) {
	c.t.Helper()
	c.pg("pg_ctl", "stop", "-D", c.data, "-w", "-t", "120", "-m", mode)
}

// restart ends the server as a crash does, and starts it again.
func (c *cluster) restart() {
	c.t.Helper()
	c.stop("immediate")
	c.start()
}

func (c *cluster) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

func databaseAt(address, name string) string {
	return "postgres://" + clusterUser + "@" + address + "/" + name + "?sslmode=disable"
}

// exec runs statements in a database of the cluster.
func (c *cluster) exec(database string, statements ...string) {
	c.t.Helper()
	if err := execute(c.t.Context(), databaseAt(c.address(), database), statements...); err != nil {
		c.t.Fatal(err)
	}
}

func execute(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// site makes a database in the cluster, and a site on it.
func (c *cluster) site(options string) *site {
	c.t.Helper()
	c.exec("postgres", "CREATE DATABASE site "+options)
	url := databaseAt(c.address(), "site")
	if err := migrate(c.t.Context(), url); err != nil {
		c.t.Fatal(err)
	}
	return newSiteAt(c.t, url)
}

// reconnect makes the test's own connections anew, which a restart has ended.
func (s *site) reconnect() {
	s.t.Helper()
	s.db.Reset()
	for deadline := time.Now().Add(patience); ; {
		err := s.db.Ping(s.t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) || errors.Is(err, context.Canceled) {
			s.t.Fatalf("the database does not come back: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // bounded by the deadline
	}
}
