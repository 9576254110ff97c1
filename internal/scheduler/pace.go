package scheduler

import (
	"sync"
	"time"
)

const (
	// slowFactor is how many times longer than usual a host may take to begin a file before it counts as overloaded.
	slowFactor = 4
	// slowLeast is what is never slow.
	slowLeast = 2 * time.Second
	// maxPaces bounds the hosts that are remembered: some payers serve each file from a host of its own.
	maxPaces = 1000
)

// pace knows how long hosts usually take to begin a file. A host that takes far longer than it used to is asked for fewer at once,
// before it has to say so by 429 or 503 (protocol.md FILE-10).
type pace struct {
	mu    sync.Mutex
	usual map[string]time.Duration
}

// slow notes how long a host took to begin a file, and reports whether that was far longer than usual.
func (p *pace) slow(host string, took time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	usual, known := p.usual[host]
	if !known {
		if p.usual == nil || len(p.usual) >= maxPaces {
			p.usual = make(map[string]time.Duration)
		}
		p.usual[host] = took
		return false
	}
	slow := took > max(slowFactor*usual, slowLeast)
	// What is usual follows slowly, so that a host under load does not become its own measure at once.
	p.usual[host] = usual + (took-usual)/16
	return slow
}
