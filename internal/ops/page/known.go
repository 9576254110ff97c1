package page

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"ingestd/internal/ops"
)

const (
	// maxAge is how old an answer of the database may be that is shown to another viewer.
	maxAge = time.Second
	// failurePause is how long the database is left alone after it did not answer.
	failurePause = 2 * time.Second
	// loadTimeout bounds one look at the database.
	loadTimeout = 8 * time.Second
	// maxKnown bounds how many pages are remembered.
	maxKnown = 200
)

// known remembers what was last read of each page: so that many viewers ask the database once, and see what was last known while it
// does not answer.
type known struct {
	mu      sync.Mutex
	entries map[string]*entry
}

// entry is what was read of one page. Who holds turn reads.
type entry struct {
	turn chan struct{}

	value    any
	at       time.Time // zero: nothing is known
	failedAt time.Time
	err      error
	used     time.Time
	forgot   bool
}

// kept is what was read, and when.
type kept[T any] struct {
	Value T
	At    time.Time
	Down  bool // the database does not answer: newer could not be had
}

// forget lets the next viewers ask again.
func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.entries {
		e.forgot = true
	}
}

func (k *known) entry(key string) *entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries == nil {
		k.entries = make(map[string]*entry)
	}
	e, ok := k.entries[key]
	if !ok {
		if len(k.entries) >= maxKnown {
			k.dropOldest()
		}
		e = &entry{turn: make(chan struct{}, 1)}
		k.entries[key] = e
	}
	e.used = time.Now()
	return e
}

func (k *known) dropOldest() {
	oldest := ""
	for key, e := range k.entries {
		if oldest == "" || e.used.Before(k.entries[oldest].used) {
			oldest = key
		}
	}
	delete(k.entries, oldest)
}

// read returns what is known under a key, of a second ago at most, or else what load returns. Where load fails because of the
// database, it returns what was known before, if that is anything. Failures that say something of the page itself are returned.
func read[T any](ctx context.Context, k *known, key string, load func(ctx context.Context) (T, error)) (kept[T], error) {
	e := k.entry(key)
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return kept[T]{}, fmt.Errorf("wait for another look at the database: %w", ctx.Err())
	}
	defer func() { <-e.turn }()
	k.mu.Lock()
	forgot := e.forgot
	e.forgot = false
	k.mu.Unlock()
	now := time.Now()
	if !e.at.IsZero() && now.Sub(e.at) < maxAge && !forgot {
		return last[T](e, false)
	}
	if e.err != nil && now.Sub(e.failedAt) < failurePause && !forgot {
		return last[T](e, true)
	}
	bounded, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	value, err := load(bounded)
	if err == nil {
		e.value, e.at, e.err = value, now, nil
		return last[T](e, false)
	}
	if ctx.Err() != nil && context.Cause(ctx) == context.Canceled { //nolint:errorlint // the viewer has gone: that says nothing of the database
		return kept[T]{}, err
	}
	if ops.Explain(err).Status < http.StatusInternalServerError {
		return kept[T]{}, err
	}
	e.failedAt, e.err = time.Now(), err
	return last[T](e, true)
}

// last is what an entry holds. Its turn is the caller's.
func last[T any](e *entry, down bool) (kept[T], error) {
	value, ok := e.value.(T)
	if !ok || e.at.IsZero() {
		return kept[T]{}, e.err
	}
	return kept[T]{Value: value, At: e.at, Down: down}, nil
}
