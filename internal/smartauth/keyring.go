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

// KeyRing holds the keys of a configuration and exchanges those whose source changes, and all when the configuration does,
// without a restart.
type KeyRing struct {
	logger *slog.Logger
	every  time.Duration
	// changing is held while keys are loaded and exchanged, by one at a time.
	changing sync.Mutex

	mu  sync.RWMutex
	set *KeySet
}

// KeySet are loaded keys that a KeyRing can go over to.
type KeySet struct {
	entries []KeyEntry
	keys    []*Key // by entry
	sums    [][sha256.Size]byte
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
	r := &KeyRing{logger: options.Logger, every: options.Every}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.every <= 0 {
		r.every = time.Minute
	}
	var err error
	r.set, err = LoadKeySet(ctx, options.Entries)
	return r, err
}

// LoadKeySet loads keys. Any that cannot be loaded is an error, as are two with one id.
func LoadKeySet(ctx context.Context, entries []KeyEntry) (*KeySet, error) {
	s := &KeySet{entries: slices.Clone(entries), keys: make([]*Key, len(entries)), sums: make([][sha256.Size]byte, len(entries))}
	for i, entry := range s.entries {
		if entry.State == "" {
			s.entries[i].State = KeyActive
		} else if entry.State != KeyActive && entry.State != KeyPublished {
			return nil, fmt.Errorf("key %q: unknown state %q: expected active or published", entry.ID, entry.State)
		}
		key, sum, err := entry.load(ctx)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", entry.ID, err)
		}
		if slices.ContainsFunc(s.keys[:i], func(other *Key) bool { return other.id == key.id }) {
			return nil, fmt.Errorf("key %q stands twice: a kid must name one key", key.id)
		}
		s.keys[i], s.sums[i] = key, sum
	}
	return s, nil
}

// Use goes over to other keys and returns those of before. What Signing gave follows.
func (r *KeyRing) Use(set *KeySet) (before *KeySet) {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	before, r.set = r.set, set
	return before
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
	r.changing.Lock()
	defer r.changing.Unlock()
	set := r.set // only who holds changing exchanges it
	var failures []error
	for i, entry := range set.entries {
		key, sum, err := entry.load(ctx)
		if err != nil {
			failures = append(failures, fmt.Errorf("key %q: %w", entry.ID, err))
			continue
		}
		r.mu.Lock()
		changed := sum != set.sums[i]
		taken := changed && slices.ContainsFunc(set.keys, func(other *Key) bool { return other != set.keys[i] && other.id == key.id })
		if changed && !taken {
			set.keys[i], set.sums[i] = key, sum
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
// is an error; "" takes the order of the configuration. Where the named key is no longer active later, because the
// configuration was exchanged, that order holds too: the payer may know another.
func (r *KeyRing) Signing(id string) (func() []*Key, error) {
	if keys, found := r.signing(id); len(keys) == 0 && id == "" {
		return nil, errors.New("there is no active key")
	} else if !found {
		return nil, fmt.Errorf("there is no active key %q", id)
	}
	return func() []*Key {
		keys, _ := r.signing(id)
		return keys
	}, nil
}

// signing returns the active keys, the one named id first, and reports whether there is one.
func (r *KeyRing) signing(id string) (keys []*Key, found bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found = id == ""
	for i, entry := range r.set.entries {
		key := r.set.keys[i]
		switch {
		case entry.State != KeyActive:
		case !found && (key.id == id || entry.ID == id):
			keys, found = slices.Insert(keys, 0, key), true
		default:
			keys = append(keys, key)
		}
	}
	return keys, found
}

// Published returns all keys, active or published, for the JWK Set.
func (r *KeyRing) Published() []*Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.set.keys)
}

// KeyStatus is what is known of a key of the ring, for a status page. It holds nothing of the private key.
type KeyStatus struct {
	Kid, Algorithm string
	State          string // KeyActive or KeyPublished
	Thumbprint     string // RFC 7638
}

// Status lists the keys, in the order of the configuration.
func (r *KeyRing) Status() []KeyStatus {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]KeyStatus, 0, len(r.set.keys))
	for i, key := range r.set.keys {
		list = append(list, KeyStatus{Kid: key.ID(), Algorithm: key.Algorithm(), State: r.set.entries[i].State, Thumbprint: key.Thumbprint()})
	}
	return list
}
