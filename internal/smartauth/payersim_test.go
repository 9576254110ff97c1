package smartauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// clientID is as long and as odd as those of some payers are (JWT-2).
var clientID = "https://ingestd.example/client?tenant=" + strings.Repeat("a/b:c", 400)

// simPayer is a simulated payer: a real HTTP server that is as strict as the strictest.
type simPayer struct {
	*payersim.Server
	t       *testing.T
	url     string
	manager *smartauth.Manager
	log     *lockedBuffer
}

// lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// simulate starts a payer with this token server, that knows the keys under clientID.
func simulate(t *testing.T, faults payersim.TokenFaults, o payersim.Options, keys ...*smartauth.Key) *simPayer {
	t.Helper()
	o.Patients, o.Faults.Token = 1, faults
	if len(keys) > 0 {
		jwks, err := smartauth.NewJWKS(keys...)
		if err != nil {
			t.Fatal(err)
		}
		o.Clients = append(o.Clients, payersim.Client{ID: clientID, JWKS: jwks})
	}
	simulator, err := payersim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(simulator)
	p := &simPayer{Server: simulator, t: t, url: server.URL, log: &lockedBuffer{}}
	p.restart()
	t.Cleanup(func() {
		p.manager.Close()
		server.Close()
		_ = simulator.Close()
	})
	return p
}

// restart gives the client a new manager, that knows no token.
func (p *simPayer) restart() {
	if p.manager != nil {
		p.manager.Close()
	}
	p.manager = smartauth.NewManager(smartauth.ManagerOptions{
		Logger:         slog.New(slog.NewJSONHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		RequestTimeout: 2 * time.Second, Patience: time.Minute,
	})
}

// source registers with the payer; edit may change what was agreed.
func (p *simPayer) source(edit func(*smartauth.Registration), keys ...*smartauth.Key) *smartauth.Source {
	p.t.Helper()
	registration := smartauth.Registration{
		Payer: "sim", FHIRURL: p.url + "/fhir", ClientID: clientID, Keys: keys, Types: []string{"Patient"},
	}
	if edit != nil {
		edit(&registration)
	}
	source, err := p.manager.Source(registration)
	if err != nil {
		p.t.Fatal(err)
	}
	return source
}

// mustBeAccepted gets a token and kicks an export off with it.
func (p *simPayer) mustBeAccepted(source *smartauth.Source) smartauth.Token {
	p.t.Helper()
	token, err := source.Token(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if status := kickOff(p.t, source, p.url+"/fhir"); status != http.StatusAccepted {
		p.t.Fatalf("kick-off: got HTTP %d, want 202", status)
	}
	return token
}

// refusal is the error of a source that gets no token.
func (p *simPayer) refusal(source *smartauth.Source) *smartauth.Error {
	p.t.Helper()
	_, err := source.Token(p.t.Context())
	failure, ok := errors.AsType[*smartauth.Error](err)
	if !ok {
		p.t.Fatalf("got %v, want a *smartauth.Error", err)
	}
	return failure
}

var (
	simKey = sync.OnceValue(func() *smartauth.Key { return mustGenerate("ES384") })
	newKey = sync.OnceValue(func() *smartauth.Key { return mustGenerate("ES256") })
)

func mustGenerate(algorithm string) *smartauth.Key {
	key, err := smartauth.GenerateKey(algorithm, "")
	if err != nil {
		panic(err)
	}
	return key
}

// kickOff starts an export with a token, as the least request that a payer authorizes.
func kickOff(t *testing.T, source *smartauth.Source, base string) int {
	t.Helper()
	status, err := tryKickOff(t, source, base)
	if err != nil {
		t.Fatalf("kick-off: %v", err)
	}
	return status
}

func tryKickOff(t *testing.T, source *smartauth.Source, base string) (int, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/$export?_type=Patient", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/fhir+json")
	request.Header.Set("Prefer", "respond-async")
	response, err := source.Transport(nil, smartauth.TransportOptions{}).RoundTrip(request)
	if err != nil {
		return 0, err
	}
	_ = response.Body.Close()
	return response.StatusCode, nil
}

func TestSource_works_with_the_simulated_payer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		algorithm, syntax string
		offset            time.Duration
	}{
		{"RS384", "v1", 0},
		{"ES384", "v2", 0},
		{"RS256", "", 4 * time.Minute},
		{"ES256", "", -4 * time.Minute},
		{"ES512", "v1", 10 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.algorithm, test.syntax, test.offset), func(t *testing.T) {
			t.Parallel()
			key, err := smartauth.GenerateKey(test.algorithm, "")
			if err != nil {
				t.Fatal(err)
			}
			simulator, err := payersim.New(payersim.Options{
				Patients: 1, ScopeSyntax: test.syntax, ClockOffset: test.offset, Algorithms: []string{test.algorithm},
				Clients: []payersim.Client{{ID: "https://ingestd.example/client", JWKSFunc: func(context.Context) ([]byte, error) {
					return smartauth.NewJWKS(key)
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(simulator)
			t.Cleanup(func() {
				server.Close()
				_ = simulator.Close()
			})
			manager := smartauth.NewManager(smartauth.ManagerOptions{})
			t.Cleanup(manager.Close)
			source, err := manager.Source(smartauth.Registration{
				Payer: "sim", FHIRURL: server.URL + "/fhir", ClientID: "https://ingestd.example/client",
				Keys: []*smartauth.Key{key}, Types: []string{"Patient"},
			})
			if err != nil {
				t.Fatal(err)
			}
			token, err := source.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(token.MissingTypes) > 0 {
				t.Errorf("missing types: %v", token.MissingTypes)
			}
			if status := kickOff(t, source, server.URL+"/fhir"); status != http.StatusAccepted {
				t.Errorf("kick-off: got HTTP %d, want 202", status)
			}
			simulator.RevokeTokens()
			if status := kickOff(t, source, server.URL+"/fhir"); status == http.StatusUnauthorized {
				t.Error("kick-off after the token was revoked: got HTTP 401, want a replay with a new token")
			}
		})
	}
}
