package payersim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// sink is the end of a download: it counts, slows down and cuts as the fault plan says.
type sink struct {
	w       io.Writer
	ctx     context.Context //nolint:containedctx // a sink lives as long as its request
	rate    int64           // bytes a second, 0: no limit
	cutAt   int64           // 0: never
	cut     func() bool     // takes the turn of the cut
	unsized bool            // the length must not be told: the end is to look like the end
	sent    *atomic.Int64
	written int64
	start   time.Time
}

func (s *sink) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		part := p[done:]
		if s.rate > 0 {
			if err := s.wait(); err != nil {
				return done, err
			}
			part = part[:min(int64(len(part)), max(1, s.rate/20))]
		}
		cut := false
		if left := s.cutAt - s.written; s.cutAt > 0 && left >= 0 && left < int64(len(part)) && s.cut() {
			part, cut = part[:left], true
		}
		n, err := s.w.Write(part)
		done += n
		s.written += int64(n)
		s.sent.Add(int64(n))
		if err != nil {
			return done, fmt.Errorf("write response: %w", err)
		}
		if cut {
			return done, errCut
		}
	}
	return done, nil
}

// wait sleeps until what was written so far is no more than the rate allows.
func (s *sink) wait() error {
	if s.start.IsZero() {
		s.start = time.Now()
	}
	due := s.start.Add(time.Duration(float64(s.written) / float64(s.rate) * float64(time.Second)))
	pause := time.Until(due)
	if pause <= 0 {
		return nil
	}
	if flusher, ok := s.w.(interface{ Flush() }); ok {
		flusher.Flush()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-s.ctx.Done():
		return fmt.Errorf("write response: %w", s.ctx.Err())
	case <-timer.C:
		return nil
	}
}

var errWindowDone = errors.New("the range is complete")

// window passes the bytes of one range and counts all.
type window struct {
	w    io.Writer
	skip int64
	left int64 // negative: to the end
	seen int64
}

func (v *window) Write(p []byte) (int, error) {
	n := len(p)
	v.seen += int64(n)
	if v.skip > 0 {
		drop := min(v.skip, int64(len(p)))
		v.skip -= drop
		p = p[drop:]
	}
	if v.left >= 0 && int64(len(p)) > v.left {
		p = p[:v.left]
	}
	if len(p) > 0 {
		if _, err := v.w.Write(p); err != nil {
			return 0, err
		}
	}
	if v.left >= 0 {
		if v.left -= int64(len(p)); v.left == 0 {
			return n, errWindowDone
		}
	}
	return n, nil
}

// gzipCache keeps compressed files, the latest used ones up to a limit of bytes.
type gzipCache struct {
	limit int64

	mu     sync.Mutex
	bodies map[string]*cachedBody
	bytes  int64
	clock  int64
}

type cachedBody struct {
	body []byte
	used int64
}

func (c *gzipCache) get(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.bodies[key]
	if found == nil {
		return nil, false
	}
	c.clock++
	found.used = c.clock
	return found.body, true
}

func (c *gzipCache) put(key string, body []byte) {
	if int64(len(body)) > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bodies[key] != nil {
		return
	}
	for c.bytes+int64(len(body)) > c.limit {
		oldest := ""
		for k, b := range c.bodies {
			if oldest == "" || b.used < c.bodies[oldest].used {
				oldest = k
			}
		}
		c.bytes -= int64(len(c.bodies[oldest].body))
		delete(c.bodies, oldest)
	}
	if c.bodies == nil {
		c.bodies = map[string]*cachedBody{}
	}
	c.clock++
	c.bodies[key] = &cachedBody{body: body, used: c.clock}
	c.bytes += int64(len(body))
}
