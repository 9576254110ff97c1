package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"ingestd/internal/store/embedded"
)

// database is a Postgres that can be killed, and the only way by which the instances reach it, which can be cut.
type database struct {
	dir    string
	server *embedded.Server
	// direct is the connection string past the front, for what checks and operates.
	direct string
	front  *front
}

func startDatabase(ctx context.Context, dir string) (*database, error) {
	d := &database{dir: dir}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	d.direct = d.server.URL() // it stays the same
	direct, err := url.Parse(d.direct)
	if err != nil {
		return nil, fmt.Errorf("read the address of Postgres: %w", err)
	}
	query := direct.Query()
	d.front, err = openFront(ctx, filepath.Join(query.Get("host"), ".s.PGSQL."+query.Get("port")))
	return d, err
}

// start starts Postgres, or starts it again. Its data survive the death of its processes, though not that of the machine.
func (d *database) start(ctx context.Context) error {
	server, err := embedded.Start(ctx, embedded.Options{Dir: d.dir, Settings: map[string]string{
		"fsync": "off", "max_connections": "200", "shared_buffers": "64MB", "max_wal_size": "2GB",
	}})
	if err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	old := d.server
	d.server = server
	if old != nil {
		return old.Stop(ctx) // it gives up its share in the server that runs now
	}
	return nil
}

// crash ends Postgres at once, as pg_ctl stop -m immediate does, and waits until it is gone.
func (d *database) crash(ctx context.Context) error {
	pid, err := d.postmaster()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("kill Postgres: %w", err)
	}
	return waitFor(ctx, "the end of Postgres", func() (bool, error) {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), nil
	})
}

func (d *database) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(d.dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find Postgres: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("find Postgres: %w", err)
	}
	return pid, nil
}

// through is the connection string of the way that can be cut.
func (d *database) through() (string, error) {
	u, err := url.Parse(d.direct)
	if err != nil {
		return "", fmt.Errorf("read the address of Postgres: %w", err)
	}
	query := u.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = d.front.listener.Addr().String(), query.Encode()
	return u.String(), nil
}

func (d *database) stop(ctx context.Context) error {
	if d.front != nil {
		d.front.close()
	}
	return d.server.Stop(ctx)
}

// front hands connections on to Postgres, unless they are cut or held up.
type front struct {
	socket   string
	listener net.Listener
	group    sync.WaitGroup

	// flow is held while nothing may pass.
	flow sync.RWMutex

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func openFront(ctx context.Context, socket string) (*front, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before Postgres: %w", err)
	}
	f := &front{socket: socket, listener: listener, conns: make(map[net.Conn]struct{})}
	f.group.Go(func() { f.accept(ctx) })
	return f, nil
}

func (f *front) accept(ctx context.Context) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := dialer.DialContext(ctx, "unix", f.socket)
		if err != nil {
			_ = client.Close() // as where nothing listens
			continue
		}
		f.mu.Lock()
		f.conns[client], f.conns[server] = struct{}{}, struct{}{}
		f.mu.Unlock()
		f.group.Go(func() { f.pass(client, server) })
		f.group.Go(func() { f.pass(server, client) })
	}
}

// pass hands on what comes, until one side ends.
func (f *front) pass(from, to net.Conn) {
	defer func() {
		_, _ = from.Close(), to.Close()
		f.mu.Lock()
		delete(f.conns, from)
		delete(f.conns, to)
		f.mu.Unlock()
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		f.flow.RLock()
		if n > 0 {
			_, writeErr := to.Write(buffer[:n])
			err = errors.Join(err, writeErr)
		}
		f.flow.RUnlock()
		if err != nil && !errors.Is(err, io.ErrShortWrite) {
			return
		}
	}
}

// cut breaks every connection.
func (f *front) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close()
	}
}

// stall lets nothing pass until ctx ends or the time is over: neither bytes nor the news that a connection has ended.
func (f *front) stall(ctx context.Context, d time.Duration) {
	f.flow.Lock()
	defer f.flow.Unlock()
	pause(ctx, d)
}

func (f *front) close() {
	_ = f.listener.Close()
	f.cut()
	f.group.Wait()
}
