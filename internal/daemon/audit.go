package daemon

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

const (
	// auditInterval is how often what an instance did by itself is written down: of the tokens of a payer, one event in it says how many
	// there were. A server that gives a token after the other fills no table.
	auditInterval = time.Minute
	// auditTimeout bounds one attempt to write.
	auditTimeout = 10 * time.Second
	// auditLimit bounds the events that wait while the database is away. More are never made in a row: tokens are counted together.
	auditLimit = 1000
)

// diary is what an instance did by itself and has not written down yet.
type diary struct {
	mu      sync.Mutex
	tokens  map[tokenKey]tokenCount
	entries []entry
	wake    chan struct{}
}

type tokenKey struct{ payer, host string }

type tokenCount struct {
	grants      int
	first, last time.Time
	lifetime    time.Duration
}

// entry is an event that waits.
type entry struct {
	action, object string
	details        map[string]any
}

func newDiary() *diary {
	return &diary{tokens: make(map[tokenKey]tokenCount), wake: make(chan struct{}, 1)}
}

// token notes that a token was granted.
func (d *diary) token(payer, host string, lifetime time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	c := d.tokens[tokenKey{payer, host}]
	if c.grants == 0 {
		c.first = now
	}
	c.grants, c.last, c.lifetime = c.grants+1, now, lifetime
	d.tokens[tokenKey{payer, host}] = c
}

// configured notes that a configuration is in use from now on, which is written soon.
func (d *diary) configured(digest string, details map[string]any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.entries) < auditLimit {
		d.entries = append(d.entries, entry{store.ActionConfigure, "configuration " + digest, details})
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take returns what waits, and forgets it.
func (d *diary) take() ([]entry, map[tokenKey]tokenCount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries, tokens := d.entries, d.tokens
	d.entries, d.tokens = nil, make(map[tokenKey]tokenCount)
	return entries, tokens
}

// putBack takes back what could not be written.
func (d *diary) putBack(entries []entry, tokens map[tokenKey]tokenCount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(entries, d.entries...)
	for key, before := range tokens {
		if now, ok := d.tokens[key]; ok {
			before.grants, before.last, before.lifetime = before.grants+now.grants, now.last, now.lifetime
		}
		d.tokens[key] = before
	}
}

// keepDiary writes down what this instance did by itself, until ctx ends, and what is left then. What cannot be written waits.
func (d *Daemon) keepDiary(ctx context.Context) error {
	select {
	case <-d.prepared:
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(auditInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-d.diary.wake:
		case <-ctx.Done():
		}
		if err := d.writeDiary(context.WithoutCancel(ctx)); err != nil {
			d.logger.WarnContext(ctx, "the audit cannot be written: what waits for it is kept", "error", err)
		}
	}
	return nil
}

func (d *Daemon) writeDiary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	entries, tokens := d.diary.take()
	if len(entries)+len(tokens) == 0 {
		return nil
	}
	by := store.Actor{Host: d.options.Host}
	err := d.Database.Store.InTx(ctx, func(tx pgx.Tx) error {
		for _, e := range entries {
			if err := d.Database.Store.AuditTx(ctx, tx, by, e.action, e.object, e.details); err != nil {
				return err
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(tokens), func(a, b tokenKey) int {
			return cmp.Or(cmp.Compare(a.payer, b.payer), cmp.Compare(a.host, b.host))
		}) {
			c := tokens[key]
			err := d.Database.Store.AuditTx(ctx, tx, by, store.ActionToken, store.PayerObject(key.payer), map[string]any{
				"token_host": key.host, "grants": c.grants, "first_at": c.first.UTC().Format(time.RFC3339), "last_at": c.last.UTC().Format(time.RFC3339),
				"lifetime_seconds": int(c.lifetime.Seconds()), "instance": d.id,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		d.diary.putBack(entries, tokens)
	}
	return err
}
