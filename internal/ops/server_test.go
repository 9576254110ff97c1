package ops

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"
)

func TestServe_bounds_the_connections_that_callers_hold(t *testing.T) {
	t.Parallel()
	s := NewServer(ServerOptions{Logger: slog.New(slog.DiscardHandler), Guard: NewGuard("secret")})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	connect := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answered := func(conn net.Conn, within time.Duration) error {
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	held := make([]net.Conn, 0, maxConnections)
	for range maxConnections {
		conn := connect()
		if err := answered(conn, time.Minute); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	further := connect()
	if err := answered(further, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection beyond the bound: got %v, want that it waits", err)
	}
	_ = held[0].Close()
	if err := answered(further, time.Minute); err != nil {
		t.Errorf("after another one ended: got %v", err)
	}
}

func TestReadyz_asks_the_database_once_for_all_who_ask(t *testing.T) {
	t.Parallel()
	d := newDirect(t)
	url := listen(t, d, "secret").URL
	const callers = 100
	before := d.Store.Pool().Stat().AcquireCount()
	var group sync.WaitGroup
	began := time.Now()
	for range callers {
		group.Go(func() {
			if status, p := ask(t, http.MethodGet, url+"/readyz", ""); status != http.StatusOK && status != http.StatusServiceUnavailable {
				t.Errorf("got %d %+v", status, p)
			}
		})
	}
	group.Wait()
	looks := int64(time.Since(began)/readyLife) + 1
	const each = 5 // more than what one look needs
	if got := d.Store.Pool().Stat().AcquireCount() - before; got > looks*each {
		t.Errorf("%d callers took %d connections in %d looks", callers, got, looks)
	}
}
