package smartauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/pem"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/youmark/pkcs8"
)

func pemBytes(t *testing.T, key *Key) []byte {
	t.Helper()
	data, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func constant(data []byte) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return data, nil }
}

func names(keys []*Key) string {
	var ids []string
	for _, key := range keys {
		ids = append(ids, key.ID())
	}
	return strings.Join(ids, " ")
}

func TestKeyRing_signs_with_active_keys_and_publishes_all(t *testing.T) {
	t.Parallel()
	data := pemBytes(t, testKey())
	ring, err := NewKeyRing(t.Context(), KeyRingOptions{Entries: []KeyEntry{
		{ID: "old", Load: constant(data)},
		{ID: "next", State: KeyPublished, Load: constant(data)},
		{ID: "new", State: KeyActive, Load: constant(pemBytes(t, testRSAKey()))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(ring.Published()); got != "old next new" {
		t.Errorf("published: got %s", got)
	}
	if got := ring.Status(); len(got) != 3 || got[1].Kid != "next" || got[1].State != KeyPublished || got[0].State != KeyActive ||
		got[2].Algorithm != testRSAKey().Algorithm() || got[0].Thumbprint != testKey().Thumbprint() {
		t.Errorf("status: got %+v", got)
	}
	for id, want := range map[string]string{"": "old new", "old": "old new", "new": "new old"} {
		signing, err := ring.Signing(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(signing()); got != want {
			t.Errorf("signing for %q: got %s, want %s", id, got, want)
		}
	}
	for _, id := range []string{"next", "missing"} {
		if _, err := ring.Signing(id); err == nil {
			t.Errorf("signing for %q: accepted", id)
		}
	}
}

func TestKeyRing_refuses_what_cannot_work(t *testing.T) {
	t.Parallel()
	data := pemBytes(t, testKey())
	for name, entries := range map[string][]KeyEntry{
		"twice":         {{ID: "a", Load: constant(data)}, {ID: "a", Load: constant(data)}},
		"unknown state": {{ID: "a", State: "retired", Load: constant(data)}},
		"no PEM":        {{ID: "a", Load: constant([]byte("x"))}},
		"missing":       {{ID: "a", Load: func(context.Context) ([]byte, error) { return nil, errors.New("gone") }}},
	} {
		if _, err := NewKeyRing(t.Context(), KeyRingOptions{Entries: entries}); err == nil || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%s: got %v, want an error that names the key", name, err)
		}
	}
}

func TestKeyRing_exchanges_a_key_whose_file_changes_and_keeps_it_when_the_file_breaks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		data := pemBytes(t, testKey())
		set := func(next []byte) {
			mu.Lock()
			defer mu.Unlock()
			data = next
		}
		var log bytes.Buffer
		ring, err := NewKeyRing(t.Context(), KeyRingOptions{
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Entries: []KeyEntry{{ID: "k", Load: func(context.Context) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				return data, nil
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		signing, err := ring.Signing("k")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ring.Run(ctx) }()
		first := signing()[0]
		time.Sleep(3 * time.Minute)
		if signing()[0] != first {
			t.Error("the key was exchanged although nothing changed")
		}
		set([]byte("-----BEGIN half a key"))
		time.Sleep(3 * time.Minute)
		if signing()[0] != first {
			t.Error("the key was dropped when its file broke")
		}
		set(pemBytes(t, testRSAKey()))
		time.Sleep(3 * time.Minute)
		if got := signing()[0]; got.Thumbprint() != testRSAKey().Thumbprint() || got.ID() != "k" {
			t.Errorf("got %v, want the new key", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if !strings.Contains(log.String(), "cannot be reloaded") || !strings.Contains(log.String(), "exchanged") {
			t.Errorf("log: %s", log.String())
		}
	})
}

func TestKeyRing_opens_encrypted_keys_and_asks_a_KMS_again(t *testing.T) {
	t.Parallel()
	inner := testKey().Signer().(*ecdsa.PrivateKey)
	encrypted, err := pkcs8.MarshalPrivateKey(inner, []byte("open sesame"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed := KeyEntry{
		ID: "sealed", Load: constant(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: encrypted})),
		Passphrase: constant([]byte("open sesame")),
	}
	var stands crypto.Signer = derSigner{key: inner}
	var unreachable error
	remote := KeyEntry{ID: "remote", Algorithm: "", Signer: func(context.Context) (crypto.Signer, error) { return stands, unreachable }}
	ring, err := NewKeyRing(t.Context(), KeyRingOptions{Entries: []KeyEntry{sealed, remote}})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(ring.Published()); got != "sealed remote" {
		t.Fatalf("got %s, want both", got)
	}
	before := ring.Published()
	unreachable = errors.New("the KMS is away")
	if err := ring.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), `"remote": the KMS is away`) {
		t.Errorf("Reload: got %v, want what failed", err)
	}
	if !slices.Equal(ring.Published(), before) {
		t.Error("a key was exchanged although nothing changed")
	}
	stands, unreachable = testRSAKey().Signer(), nil // the alias was moved to another key
	if err := ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ring.Published()[1]; got.Thumbprint() != testRSAKey().Thumbprint() || got.ID() != "remote" {
		t.Errorf("got %v, want the key that the alias stands for", got)
	}

	for name, entry := range map[string]KeyEntry{
		"wrong passphrase": {ID: "a", Load: sealed.Load, Passphrase: constant([]byte("close sesame"))},
		"no passphrase":    {ID: "a", Load: sealed.Load},
		"passphrase that cannot be had": {ID: "a", Load: sealed.Load, Passphrase: func(context.Context) ([]byte, error) {
			return nil, errors.New("the variable is not set")
		}},
		"algorithm that does not fit": {ID: "a", Algorithm: "ES384", Signer: remote.Signer},
	} {
		_, err := NewKeyRing(t.Context(), KeyRingOptions{Entries: []KeyEntry{entry}})
		if err == nil || !strings.Contains(err.Error(), `"a"`) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v, want an error that names the key", name, err)
		}
	}
}

func TestKEY5_rotation_by_file_needs_no_restart_and_no_refused_request(t *testing.T) {
	t.Parallel()
	first, second := testKey(), testRSAKey()
	dir := t.TempDir()
	for name, key := range map[string]*Key{"1.pem": first, "2.pem": second} {
		if err := WriteKeyFile(filepath.Join(dir, name), key); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) func(context.Context) ([]byte, error) {
		return func(context.Context) ([]byte, error) { return ReadKeyFile(filepath.Join(dir, name)) }
	}
	// Both keys stand in the payer's set; then the configuration makes the second one active.
	p := newPayer(t, first, second)
	m := newTestManager(t, ManagerOptions{})
	for _, step := range []struct {
		states [2]string
		active string
	}{
		{[2]string{KeyActive, KeyPublished}, first.ID()},
		{[2]string{KeyPublished, KeyActive}, second.ID()},
	} {
		ring, err := NewKeyRing(t.Context(), KeyRingOptions{Entries: []KeyEntry{
			{ID: first.ID(), State: step.states[0], Load: file("1.pem")}, {ID: second.ID(), State: step.states[1], Load: file("2.pem")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		registration := p.registration()
		if registration.CurrentKeys, err = ring.Signing(step.active); err != nil {
			t.Fatal(err)
		}
		source := newTestSource(t, m, registration)
		source.Invalidate(mustToken(t, source))
		mustToken(t, source)
		header, _ := decodeAssertion(t, p.forms[len(p.forms)-1].Get("client_assertion"))
		if header["kid"] != step.active {
			t.Errorf("signed with %v, want %s", header["kid"], step.active)
		}
	}
	if len(p.forms) != len(p.issued) {
		t.Errorf("%d requests and %d tokens: some were refused", len(p.forms), len(p.issued))
	}
}

func TestRound_tries_a_key_that_comes_to_the_front(t *testing.T) {
	t.Parallel()
	a, b, c := testKey(), testRSAKey(), &Key{id: "c"}
	for _, test := range []struct {
		keys            []*Key
		front, accepted *Key
		want            *Key
	}{
		{[]*Key{a, b}, nil, nil, a},
		{[]*Key{a, b}, a, a, a},
		{[]*Key{a, b}, a, b, b},
		{[]*Key{b, a}, a, a, b},
		{[]*Key{c, a}, a, a, c},
		{[]*Key{a, c}, a, b, a},
		{nil, a, b, nil},
	} {
		r := round{registration: &Registration{Method: MethodPrivateKeyJWT}}
		r.useKeys(test.keys, test.front, test.accepted)
		if got := r.key(); got != test.want {
			t.Errorf("keys %v, front %v, accepted %v: got %v, want %v", test.keys, test.front, test.accepted, got, test.want)
		}
	}
}

func TestKeyRing_goes_over_to_other_keys_and_what_it_gave_follows(t *testing.T) {
	t.Parallel()
	old := KeyEntry{ID: "old", Load: constant(pemBytes(t, testKey()))}
	next := KeyEntry{ID: "next", Load: constant(pemBytes(t, testRSAKey()))}
	ring, err := NewKeyRing(t.Context(), KeyRingOptions{Entries: []KeyEntry{old}})
	if err != nil {
		t.Fatal(err)
	}
	signing, err := ring.Signing("old")
	if err != nil {
		t.Fatal(err)
	}
	use := func(entries ...KeyEntry) *KeySet {
		set, err := LoadKeySet(t.Context(), entries)
		if err != nil {
			t.Fatal(err)
		}
		return ring.Use(set)
	}
	first := use(next, old)
	if got := names(signing()); got != "old next" {
		t.Errorf("with both keys: got %s", got)
	}
	published := old
	published.State = KeyPublished
	use(published, next)
	if got := names(signing()); got != "next" {
		t.Errorf("after the rotation: got %s", got)
	}
	if got := names(ring.Published()); got != "old next" {
		t.Errorf("published: got %s", got)
	}
	use()
	if got := signing(); len(got) != 0 {
		t.Errorf("without keys: got %s", names(got))
	}
	ring.Use(first)
	if got := names(signing()); got != "old" {
		t.Errorf("after going back: got %s", got)
	}
}
