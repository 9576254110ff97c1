package testpg

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Bouncer is a PgBouncer in front of the package's Postgres. It gives each transaction another session, and knows no prepared
// statements.
type Bouncer struct {
	port int
	user string
}

// NewBouncer starts a PgBouncer with that many sessions a database, which ends with the test. Where none is installed the test
// fails, and says what to install.
func NewBouncer(t testing.TB, sessions int) *Bouncer {
	t.Helper()
	return newBouncer(t, "transaction", sessions)
}

// NewSessionBouncer is NewBouncer of one that keeps a session for each connection.
func NewSessionBouncer(t testing.TB, sessions int) *Bouncer {
	t.Helper()
	return newBouncer(t, "session", sessions)
}

func newBouncer(t testing.TB, mode string, sessions int) *Bouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			t.Fatal("testpg: PgBouncer is not installed: apt-get install pgbouncer")
		}
	}
	start()
	if shared.err != nil {
		t.Fatalf("testpg: %v", shared.err)
	}
	server, err := url.Parse(shared.server.URL())
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	socket := server.Query().Get("host")
	dir, err := os.MkdirTemp(shared.dir, "pgbouncer-") //nolint:usetesting // the server's user cannot get into t.TempDir
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	b := &Bouncer{port: freePort(t), user: server.Query().Get("user")}
	// The socket is for Postgres' own user alone, and PgBouncer does not run as root.
	account := ownerOf(t, socket)
	settings := fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
pidfile = %s
auth_type = any
admin_users = %[3]s
pool_mode = %[6]s
default_pool_size = %[7]d
max_client_conn = 500
%[8]s`, socket, server.Query().Get("port"), b.user, b.port, filepath.Join(dir, "pgbouncer.pid"), mode, sessions, noPreparedStatements(t, program))
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatalf("testpg: %v", err)
	}
	for _, path := range []string{dir, file} {
		if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
			t.Fatalf("testpg: %v", err)
		}
	}
	var log strings.Builder
	cmd := exec.Command(program, file)
	cmd.Stderr, cmd.Stdout, cmd.Dir = &log, &log, "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("testpg: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", log.String())
		}
	})
	b.wait(t)
	return b
}

// freePort is one that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	defer listener.Close()
	address, _ := listener.Addr().(*net.TCPAddr)
	return address.Port
}

func ownerOf(t testing.TB, path string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
}

// noPreparedStatements is the setting for it, which PgBouncer knows since 1.21: earlier ones have none.
func noPreparedStatements(t testing.TB, program string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil {
		t.Fatalf("testpg: the version of pgbouncer: %v", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "PgBouncer %d.%d", &major, &minor); err != nil {
		t.Fatalf("testpg: the version of pgbouncer: %v in %q", err, out)
	}
	if major == 1 && minor < 21 {
		return ""
	}
	return "max_prepared_statements = 0\n"
}

// URL is the connection string of a database, by way of the pooler.
func (b *Bouncer) URL(direct string) string {
	u, err := url.Parse(direct)
	if err != nil {
		panic(err) // the package's own URL
	}
	return (&url.URL{
		Scheme: "postgres", User: url.User(b.user), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)), Path: u.Path, RawQuery: "sslmode=disable",
	}).String()
}

// Transactions counts those that went through to a database.
func (b *Bouncer) Transactions(t testing.TB, direct string) int64 {
	t.Helper()
	conn, err := b.console(t.Context())
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `SHOW STATS_TOTALS`)
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	u, _ := url.Parse(direct)
	for _, row := range all {
		if row["database"] == strings.TrimPrefix(u.Path, "/") {
			n, ok := row["xact_count"].(pgtype.Numeric)
			if !ok {
				t.Fatalf("testpg: pgbouncer counts %T", row["xact_count"])
			}
			count, err := n.Int64Value()
			if err != nil {
				t.Fatalf("testpg: %v", err)
			}
			return count.Int64
		}
	}
	return 0
}

// console connects to PgBouncer itself, which knows the simple protocol only.
func (b *Bouncer) console(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(b.URL("/pgbouncer"))
	if err != nil {
		return nil, fmt.Errorf("connect to the console: %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the console: %w", err)
	}
	return conn, nil
}

func (b *Bouncer) wait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		conn, err := b.console(ctx)
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("testpg: pgbouncer does not answer: %v", err)
		}
	}
}
