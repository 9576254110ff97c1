package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// roster knows the payers: as they are configured now, and as running exports began with them.
type roster struct {
	mu     sync.RWMutex
	payers map[string]Payer
	// sharing are, by payer, others that are the same client to the same server.
	sharing map[string][]string
	// pinned are payers as exports began with them, where that is not as they are configured now.
	pinned map[pin]Payer
}

// pin names the settings that an export began with.
type pin struct{ payer, digest string }

func newRoster(payers []Payer) *roster {
	r := &roster{payers: make(map[string]Payer, len(payers)), pinned: make(map[pin]Payer)}
	for _, p := range payers {
		p.digest = p.Config.Digest()
		r.payers[p.Config.Name] = p
	}
	r.sharing = shareOut(r.payers)
	return r
}

// payer returns a payer as it is configured now.
func (r *roster) payer(name string) (Payer, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p, ok := r.payers[name]
	return p, ok
}

// all returns the payers as they are configured now, by name.
func (r *roster) all() map[string]Payer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.payers)
}

// sharers returns, by payer, the others that are the same client to the same server.
func (r *roster) sharers() map[string][]string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.sharing // replaced as a whole
}

// asBegun returns a payer as an export began with it, where that is known without asking the database.
func (r *roster) asBegun(x store.Export) (Payer, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p, ok := r.payers[x.Payer]; ok && (x.Settings == "" || x.Settings == p.digest) {
		return p, true
	}
	p, ok := r.pinned[pin{x.Payer, x.Settings}]
	return p, ok
}

// keep remembers a payer as an export began with it, unless the configuration that it was made for has been exchanged since.
func (r *roster) keep(x store.Export, p Payer, madeFor Payer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.payers[x.Payer].Client == madeFor.Client {
		r.pinned[pin{x.Payer, x.Settings}] = p
	}
}

// exchange goes over to other payers and returns the names of those that are new or changed. Those that were removed are
// remembered for the exports that they began.
func (r *roster) exchange(next *roster) (changed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.pinned, func(key pin, _ Payer) bool {
		p, configured := next.payers[key.payer]
		return configured && p.Client != r.payers[key.payer].Client // made for what has changed
	})
	for name, p := range next.payers {
		if old, ok := r.payers[name]; !ok || old.Client != p.Client {
			changed = append(changed, name)
		}
	}
	for name, p := range r.payers {
		if _, ok := next.payers[name]; !ok {
			r.pinned[pin{name, p.digest}] = p
		}
	}
	r.payers, r.sharing = next.payers, next.sharing
	slices.Sort(changed)
	return changed
}

// ElsewhereError says that a payer is in the configuration of other instances, and not in this one's.
type ElsewhereError struct{ Name string }

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("payer %q is in the configuration of other instances only", e.Name)
}

// elsewherePause is how long a job is left to instances that know its payer, before this one looks again.
const elsewherePause = 5 * time.Second

// payerOf returns the payer of an export, with the settings that the export began with: those of the configuration where
// they are the same, and otherwise those that are kept with the export. The errors are *UnknownPayerError where the payer is
// gone and nothing was kept, *ElsewhereError where others know it, or a failure of Postgres or of the settings.
func (e *Engine) payerOf(ctx context.Context, x store.Export) (Payer, error) {
	if p, ok := e.roster.asBegun(x); ok {
		return p, nil
	}
	current, configured := e.roster.payer(x.Payer)
	if !configured && e.options.Queue == "" {
		elsewhere, err := e.store.IsConfigured(ctx, x.Payer)
		if err != nil {
			return Payer{}, err
		}
		if elsewhere {
			return Payer{}, &ElsewhereError{x.Payer}
		}
	}
	kept, err := e.store.Settings(ctx, x.Payer, x.Settings)
	if errors.Is(err, store.ErrNoSettings) || err == nil && e.options.Pin == nil {
		if configured {
			return current, nil
		}
		return Payer{}, &UnknownPayerError{x.Payer}
	}
	if err != nil {
		return Payer{}, err
	}
	settings, err := config.ReadSettings(kept.JSON)
	if err != nil {
		return Payer{}, err
	}
	var now *config.Payer
	if configured {
		now = &current.Config
	}
	p, err := e.options.Pin(settings.Pinned(now))
	if err != nil {
		return Payer{}, fmt.Errorf("go on with the settings that export %d began with: %w", x.ID, err)
	}
	p.digest = x.Settings
	e.roster.keep(x, p, current)
	return p, nil
}

// settingsOf are the settings that an export of the payer begins with.
func settingsOf(p config.Payer) store.Settings {
	data, err := p.Settings()
	if err != nil {
		panic(err) // strings, numbers and lists of them always marshal
	}
	return store.Settings{Digest: p.Digest(), JSON: data}
}

// Reconfigure goes over to other payers and another tuning while the engine works. Those whose client is the same stay as they are. Schedules
// follow at the next look; running exports go on under the settings that they began with, those of removed payers too. An error
// says that a schedule cannot be read: nothing has changed then.
func (e *Engine) Reconfigure(ctx context.Context, payers []Payer, t Tuning) error {
	next := newRoster(payers)
	if err := newTicker(e).follow(next.payers); err != nil {
		return err
	}
	e.tune(t)
	changed := e.roster.exchange(next)
	e.noteBases(ctx, changed)
	if len(changed) > 0 {
		e.warnOfSharedClients(ctx)
	}
	return nil
}
