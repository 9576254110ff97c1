// Package testpg gives tests a real Postgres: one server per test binary, started when the first test asks for it, and a
// database of its own per test, cloned from a template that is migrated once.
package testpg

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store/embedded"
)

var shared struct {
	start    sync.Once
	dir      string
	server   *embedded.Server
	err      error
	template sync.Mutex
	ready    map[string]bool
	next     atomic.Int64
	// create keeps clones apart: Postgres copies a template for one at a time.
	create sync.Mutex
}

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// Main runs the tests of a package and stops the server afterwards. Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m.Run)) }

// Run calls run and stops the server afterwards, for a TestMain that has more to do. It returns run's result.
func Run(run func() int) int {
	defer stop()
	return run()
}

func stop() {
	if shared.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := shared.server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "testpg:", err)
		}
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir) // a temporary directory
	}
}

// start runs the server. Its data need not survive a crash: it is as fast as Postgres gets.
func start() {
	shared.start.Do(func() {
		// The directory must be one that the server's user can reach, which t.TempDir as root is not.
		if shared.dir, shared.err = os.MkdirTemp("", "testpg-"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		shared.server, shared.err = embedded.Start(ctx, embedded.Options{Dir: shared.dir, Settings: map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300",
			"shared_buffers": "128MB", "autovacuum": "off",
		}})
		shared.ready = make(map[string]bool)
	})
}

// New returns the connection string of a fresh database that migrate has been applied to; it is dropped when the test
// ends. A nil migrate gives an empty database. Where no Postgres is installed the test fails, and says what to install.
func New(t testing.TB, migrate func(ctx context.Context, url string) error) string {
	t.Helper()
	start()
	if shared.err != nil {
		t.Fatalf("testpg: %v", shared.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	template := "template1"
	if migrate != nil {
		template = "migrated"
		if err := makeTemplate(ctx, template, migrate); err != nil {
			t.Fatalf("testpg: %v", err)
		}
	}
	name := fmt.Sprintf("test_%d", shared.next.Add(1))
	shared.create.Lock()
	err := execute(ctx, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name, template))
	shared.create.Unlock()
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := execute(ctx, fmt.Sprintf(`DROP DATABASE %s WITH (FORCE)`, name)); err != nil {
			t.Errorf("testpg: %v", err)
		}
	})
	return databaseURL(name)
}

func makeTemplate(ctx context.Context, name string, migrate func(context.Context, string) error) error {
	shared.template.Lock()
	defer shared.template.Unlock()
	if shared.ready[name] {
		return nil
	}
	if err := execute(ctx, `CREATE DATABASE `+name); err != nil {
		return err
	}
	if err := migrate(ctx, databaseURL(name)); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	shared.ready[name] = true
	return nil
}

func execute(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, databaseURL("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func databaseURL(name string) string {
	u, err := url.Parse(shared.server.URL())
	if err != nil {
		panic(err) // the package's own URL
	}
	u.Path = "/" + name
	return u.String()
}
