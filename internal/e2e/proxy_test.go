//go:build faults

package e2e

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between the daemon and a database: it can cut the connections, stand still without a word, and lead to another server.
type proxy struct {
	listener net.Listener
	group    sync.WaitGroup

	mu     sync.Mutex
	moves  *sync.Cond
	target string
	still  bool
	ended  bool
	conns  map[net.Conn]bool
}

// newProxy leads to a target until the test ends.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	p.moves = sync.NewCond(&p.mu)
	p.group.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.ended = true
		p.moves.Broadcast()
		p.mu.Unlock()
		p.cut()
		p.group.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.keep(client)
		p.group.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.await() {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	p.keep(server)
	defer p.drop(server)
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		both.Go(func() {
			p.pass(from, to)
			_ = from.Close()
			_ = to.Close()
		})
	}
	both.Wait()
}

// pass copies until an end closes, and holds back what comes while the proxy stands still.
func (p *proxy) pass(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.await() {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			p.await() // an end does not get through either
			return
		}
	}
}

// await waits while the proxy stands still; false where it has ended.
func (p *proxy) await() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.still && !p.ended {
		p.moves.Wait()
	}
	return !p.ended
}

func (p *proxy) keep(conn net.Conn) {
	p.mu.Lock()
	p.conns[conn] = true
	p.mu.Unlock()
}

func (p *proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
}

// stand makes it stand still, or go on.
func (p *proxy) stand(still bool) {
	p.mu.Lock()
	p.still = still
	p.moves.Broadcast()
	p.mu.Unlock()
}

// lead leads to another server; who is connected is cut off.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.cut()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}
