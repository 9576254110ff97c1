package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }

// patience bounds every wait of these tests.
const patience = time.Minute

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(10 * time.Millisecond) // bounded by the deadline
	}
}

// writeKey generates a key and puts it in place of a file at once, as a careful operator does.
func writeKey(t *testing.T, path, kid string) *smartauth.Key {
	t.Helper()
	key, err := smartauth.GenerateKey("ES384", kid)
	if err != nil {
		t.Fatal(err)
	}
	next := path + ".next"
	if err := smartauth.WriteKeyFile(next, key); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	return key
}

// simulate starts a simulated payer and returns its FHIR base.
func simulate(t *testing.T, o payersim.Options) string {
	t.Helper()
	if o.Patients == 0 {
		o.Patients = 2
	}
	simulator, err := payersim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(simulator)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := simulator.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL + "/fhir"
}

// jwksOf is a JWK Set by value.
func jwksOf(t *testing.T, keys ...*smartauth.Key) []byte {
	t.Helper()
	set, err := smartauth.NewJWKS(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// parse reads a configuration.
func parse(t testing.TB, format string, args ...any) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ingestd.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openLinks makes links as the daemon does, without a database.
func openLinks(t *testing.T, c *config.Config, secrets *Secrets) links {
	t.Helper()
	keys, err := openKeys(t.Context(), c.Keys, Options{Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	manager := smartauth.NewManager(smartauth.ManagerOptions{Patience: 10 * time.Second})
	t.Cleanup(manager.Close)
	return links{keys: keys, manager: manager, secrets: secrets}
}

// tokenOf gets a token at a payer, as the first request of an export does.
func tokenOf(ctx context.Context, t *testing.T, l links, p config.Payer) error {
	t.Helper()
	made, err := l.to(p)
	if err != nil {
		t.Fatal(err)
	}
	defer made.transport.CloseIdleConnections()
	_, err = made.source.Token(ctx)
	return err
}

// syncBuffer is a log that the test reads while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
