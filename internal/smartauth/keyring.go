package smartauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// The states of a key (config: keys[].state).
const (
	KeyActive    = "active"    // signs, and stands in the JWK Set
	KeyPublished = "published" // stands in the JWK Set only: being rotated in or out
)

// KeyEntry says where a key of a KeyRing comes from.
type KeyEntry struct {
	// ID is the kid, Algorithm a JWS alg or empty for the key's own.
	ID, Algorithm string
	// State is KeyActive or KeyPublished; empty is KeyActive.
	State string
	// Load returns PEM or JWK bytes; it is asked again at each look for changes. ReadKeyFile is one for files.
	Load func(context.Context) ([]byte, error)
	// Passphrase, if set, returns what opens an encrypted PKCS#8 key that Load returns.
	Passphrase func(context.Context) ([]byte, error)
	// Signer takes the place of Load for a key that stays in a KMS; it is asked again at each look for changes too.
	Signer func(context.Context) (crypto.Signer, error)
}

// KeyRing holds the keys of a configuration and exchanges those whose source changes, without a restart.
type KeyRing struct {
	logger  *slog.Logger
	every   time.Duration
	entries []KeyEntry

	mu   sync.RWMutex
	keys []*Key // by entry
	sums [][sha256.Size]byte
}

// KeyRingOptions are what a KeyRing needs.
type KeyRingOptions struct {
	Entries []KeyEntry
	// Logger; nil discards.
	Logger *slog.Logger
	// Every is how often Run looks for changes. Default: 1 min.
	Every time.Duration
}

// NewKeyRing loads all keys. Any that cannot be loaded is an error, as are two with one id.
func NewKeyRing(ctx context.Context, options KeyRingOptions) (*KeyRing, error) {
	r := &KeyRing{logger: options.Logger, every: options.Every, entries: slices.Clone(options.Entries)}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.every <= 0 {
		r.every = time.Minute
	}
	r.keys = make([]*Key, len(r.entries))
	r.sums = make([][sha256.Size]byte, len(r.entries))
	for i, entry := range r.entries {
		if entry.State == "" {
			r.entries[i].State = KeyActive
		} else if entry.State != KeyActive && entry.State != KeyPublished {
			return nil, fmt.Errorf("key %q: unknown state %q: expected active or published", entry.ID, entry.State)
		}
		key, sum, err := entry.load(ctx)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", entry.ID, err)
		}
		if slices.ContainsFunc(r.keys[:i], func(other *Key) bool { return other.id == key.id }) {
			return nil, fmt.Errorf("key %q stands twice: a kid must name one key", key.id)
		}
		r.keys[i], r.sums[i] = key, sum
	}
	return r, nil
}

func (e KeyEntry) load(ctx context.Context) (*Key, [sha256.Size]byte, error) {
	if e.Signer != nil {
		signer, err := e.Signer(ctx)
		if err != nil {
			return nil, [sha256.Size]byte{}, err
		}
		key, err := NewKey(e.ID, e.Algorithm, signer)
		if err != nil {
			return nil, [sha256.Size]byte{}, err
		}
		return key, sha256.Sum256([]byte(key.Thumbprint())), nil
	}
	data, err := e.Load(ctx)
	if err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	var passphrase []byte
	if e.Passphrase != nil {
		if passphrase, err = e.Passphrase(ctx); err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("its passphrase: %w", err)
		}
	}
	key, err := ParseEncryptedKey(e.ID, e.Algorithm, data, passphrase)
	return key, sha256.Sum256(bytes.TrimSpace(data)), err
}

// Run looks for changed keys until ctx ends. A key that cannot be loaded any more stays as it was, and is reported.
func (r *KeyRing) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := r.Reload(ctx); err != nil && ctx.Err() == nil {
				r.logger.Error("a signing key cannot be reloaded: the one in memory stays in use", slog.Any("error", err))
			}
		}
	}
}

// Reload looks for changed keys now. Each that can be loaded is exchanged; the error joins what went wrong with the others.
func (r *KeyRing) Reload(ctx context.Context) error {
	var failures []error
	for i, entry := range r.entries {
		key, sum, err := entry.load(ctx)
		if err != nil {
			failures = append(failures, fmt.Errorf("key %q: %w", entry.ID, err))
			continue
		}
		r.mu.Lock()
		changed := sum != r.sums[i]
		taken := changed && slices.ContainsFunc(r.keys, func(other *Key) bool { return other != r.keys[i] && other.id == key.id })
		if changed && !taken {
			r.keys[i], r.sums[i] = key, sum
		}
		r.mu.Unlock()
		if taken {
			failures = append(failures, fmt.Errorf("key %q stands twice: a kid must name one key", key.id))
		} else if changed {
			r.logger.Info("a signing key was exchanged", slog.String("kid", key.id), slog.String("algorithm", key.Algorithm()),
				slog.String("state", entry.State))
		}
	}
	return errors.Join(failures...)
}

// Signing returns the active keys, the one named id first, for Registration.CurrentKeys. An id that names no active key
// is an error; "" takes the order of the configuration.
func (r *KeyRing) Signing(id string) (func() []*Key, error) {
	first := -1
	for i, entry := range r.entries {
		if entry.State == KeyActive && (id == "" || r.keys[i].id == id || entry.ID == id) {
			first = i
			break
		}
	}
	if first < 0 {
		if id == "" {
			return nil, errors.New("there is no active key")
		}
		return nil, fmt.Errorf("there is no active key %q", id)
	}
	return func() []*Key {
		r.mu.RLock()
		defer r.mu.RUnlock()
		keys := []*Key{r.keys[first]}
		for i, key := range r.keys {
			if i != first && r.entries[i].State == KeyActive {
				keys = append(keys, key)
			}
		}
		return keys
	}, nil
}

// Published returns all keys, active or published, for the JWK Set.
func (r *KeyRing) Published() []*Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.keys)
}
