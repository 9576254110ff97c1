package page

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"ingestd/internal/ops"
)

const (
	// streamLife is how long a viewer follows on one connection; the browser then makes another.
	streamLife = time.Hour
	// beatInterval is how often a silent stream says that it lives, so that proxies keep it.
	beatInterval = 15 * time.Second
	// writeTimeout is how long a viewer may take to read an event.
	writeTimeout = 10 * time.Second
)

// streams are the viewers that follow what happens.
type streams struct {
	open   atomic.Int64
	closed chan struct{} // closed when Run ends
}

// board is what viewers are told: each row with the number of the change that it last took part in, rendered once for all.
type board struct {
	boot string // tells this process from others, whose numbers mean nothing here

	mu       sync.Mutex
	sequence uint64
	rows     map[string]*boardRow
	order    []string
	ordered  uint64 // the change that the order is of
	snapshot *snapshot
	latest   kept[*snapshot]
	changed  chan struct{} // closed at each look at the database
}

type boardRow struct {
	digest   uint64
	html     string
	sequence uint64
}

func newBoard() *board {
	return &board{boot: rand.Text()[:8], rows: make(map[string]*boardRow), changed: make(chan struct{})}
}

// update takes a snapshot: rows that changed are rendered anew, and get the next number.
func (b *board) update(s *snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sequence++
	order := make([]string, 0, len(s.Rows))
	rows := make(map[string]*boardRow, len(s.Rows))
	for _, r := range s.Rows {
		order = append(order, r.Payer)
		digest := digestOf(r)
		known, ok := b.rows[r.Payer]
		if !ok || known.digest != digest {
			var out bytes.Buffer
			if err := templates.ExecuteTemplate(&out, "payer-row", shownRow{row: r}); err != nil {
				continue // never: the overview renders it, too
			}
			known = &boardRow{digest: digest, html: out.String(), sequence: b.sequence}
		}
		rows[r.Payer] = known
	}
	if !slices.Equal(order, b.order) {
		b.order, b.ordered = order, b.sequence
	}
	b.rows, b.snapshot = rows, s
}

func digestOf(r row) uint64 {
	text, err := json.Marshal(r) //nolint:musttag // nobody reads it
	if err != nil {
		return 0 // never: it is text, numbers and times
	}
	h := fnv.New64a()
	_, _ = h.Write(text) // a hash never fails
	return h.Sum64()
}

// sequenceOf is the number of the change that a page shows which is made of this snapshot.
func (b *board) sequenceOf(s *snapshot) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s == nil || b.snapshot != s {
		return 0 // it is of before: all that stands now is news
	}
	return b.sequence
}

// note remembers what was seen last, and whether it is of now.
func (b *board) note(k kept[*snapshot]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latest = k
}

// tell wakes the viewers.
func (b *board) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// news is an event: what changed since a number.
type news struct {
	Sequence uint64            `json:"sequence"`
	Boot     string            `json:"boot"`
	Rows     map[string]string `json:"rows,omitempty"`
	Order    []string          `json:"order,omitempty"`
	Summary  string            `json:"summary,omitempty"`
	Figures  map[string]int    `json:"figures,omitempty"`
	Down     bool              `json:"down"`
}

// since returns what changed since a number, and what to wait on for more. With watch, rows are those of that payer, without their
// HTML.
func (b *board) since(sequence uint64, watch string) (news, <-chan struct{}, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := news{Sequence: b.sequence, Boot: b.boot, Rows: make(map[string]string), Down: b.latest.Down}
	if watch != "" {
		r, ok := b.rows[watch]
		return n, b.changed, ok && r.sequence > sequence
	}
	for payer, r := range b.rows {
		if r.sequence > sequence {
			n.Rows[payer] = r.html
		}
	}
	if b.ordered > sequence {
		n.Order = b.order
	}
	if b.latest.Value != nil {
		var out bytes.Buffer
		summary := newSummary(b.latest, "")
		if err := templates.ExecuteTemplate(&out, "system", summary); err == nil {
			n.Summary = out.String()
		}
		n.Figures = make(map[string]int)
		for _, f := range summary.Figures {
			n.Figures[f.Label] = f.N
		}
	}
	return n, b.changed, true
}

// stream tells a viewer what changes, until they go, their sign-in ends, or the daemon stops.
func (p *Page) stream(v *visit) error {
	if p.streams.open.Add(1) > maxStreams {
		p.streams.open.Add(-1)
		v.w.Header().Set("Retry-After", "30")
		return &ops.Problem{
			Code: "too_many_streams", Message: "Too many viewers follow this page.", Hint: "Load it again now and then.", Status: http.StatusServiceUnavailable,
		}
	}
	defer p.streams.open.Add(-1)
	life := streamLife
	if !v.session.isZero() {
		life = min(life, time.Until(v.session.Expires))
	}
	end := time.NewTimer(life)
	defer end.Stop()
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()

	query := v.r.URL.Query()
	sequence, err := strconv.ParseUint(query.Get("sequence"), 10, 64)
	if err != nil || query.Get("boot") != p.board.boot {
		sequence = 0
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies are not to gather events
	v.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(v.w)
	if err := v.send(out, ": ingestd\nretry: 3000\n\n"); err != nil {
		return nil // the viewer has gone
	}
	for {
		if !v.session.isZero() && p.sessions.of(v.r).isZero() {
			return nil // signed out meanwhile
		}
		news, changed := p.event(sequence, query.Get("watch"))
		if news.event != "" {
			if err := v.send(out, news.event); err != nil {
				return nil // the viewer has gone
			}
			sequence = news.sequence
		}
		for waiting := true; waiting; {
			select {
			case <-v.r.Context().Done():
				return nil
			case <-p.streams.closed:
				return nil
			case <-end.C:
				return nil
			case <-beat.C:
				if err := v.send(out, ": alive\n\n"); err != nil {
					return nil // the viewer has gone
				}
			case <-changed:
				waiting = false
			}
		}
	}
}

// told is an event and the number that it brings the viewer to; empty where there is nothing to tell.
type told struct {
	event    string
	sequence uint64
}

func (p *Page) event(sequence uint64, watch string) (told, <-chan struct{}) {
	n, changed, anything := p.board.since(sequence, watch)
	if !anything {
		return told{}, changed
	}
	text, err := json.Marshal(n)
	if err != nil {
		return told{}, changed // never: it is text and numbers
	}
	name := "news"
	if watch != "" {
		name = "changed"
	}
	return told{event: "event: " + name + "\ndata: " + string(text) + "\n\n", sequence: n.Sequence}, changed
}

// send writes to a viewer, who has to read it in time.
func (v *visit) send(out *http.ResponseController, text string) error {
	if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("bound a write: %w", err)
	}
	if _, err := v.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	return nil
}
