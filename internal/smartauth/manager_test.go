package smartauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestJWT5_every_method_of_signing_is_accepted_by_a_strict_server(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			key, err := GenerateKey(algorithm, "")
			if err != nil {
				t.Fatal(err)
			}
			p := newPayer(t, key)
			source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(key))
			for range 3 {
				token := mustToken(t, source)
				source.Invalidate(token)
			}
			if got := p.tokenRequests(); got != 3 {
				t.Errorf("token requests: got %d, want 3, none refused", got)
			}
		})
	}
}

func TestTOK7_sources_of_one_client_share_one_token(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	m := newTestManager(t, ManagerOptions{})
	first := newTestSource(t, m, p.registration(testKey()))
	second := newTestSource(t, m, p.registration(testKey()))
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			source := first
			if i%2 == 0 {
				source = second
			}
			if _, err := source.Token(t.Context()); err != nil {
				t.Errorf("Token: %v", err)
			}
		})
	}
	group.Wait()
	if got := p.tokenRequests(); got != 1 {
		t.Errorf("token requests: got %d, want 1", got)
	}
	other := p.registration(testKey())
	other.Types = []string{"Coverage"}
	if mustToken(t, newTestSource(t, m, other)).serial == mustToken(t, first).serial {
		t.Error("a source with other scopes got the same token")
	}
}

func TestManager_refreshes_once_for_a_storm_of_401s(t *testing.T) {
	t.Parallel()
	const storm = 1000
	p := newPayer(t, testKey())
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	mustToken(t, source)
	p.set(func(p *payer) { p.revoked[p.issued[0]] = true })

	// The server answers the storm only when all of it has arrived with the old token.
	var arrived atomic.Int64
	release := make(chan struct{})
	wire := roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.Header.Get("Authorization"), "token-1-of-this-payer") {
			if arrived.Add(1) == storm {
				close(release)
			}
			<-release
			return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	client := http.Client{Transport: source.Transport(wire, TransportOptions{})}
	var group sync.WaitGroup
	for range storm {
		group.Go(func() {
			response, err := client.Get(p.base() + "/Patient")
			if err != nil {
				t.Errorf("GET: %v", err)
				return
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("status: got %d, want 200", response.StatusCode)
			}
		})
	}
	group.Wait()
	if got := p.tokenRequests(); got != 2 {
		t.Errorf("token requests: got %d, want 2: the first and one refresh", got)
	}
}

func TestManager_keeps_its_token_where_a_late_401_is_about_an_older_one(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	old := mustToken(t, source)
	source.Invalidate(old)
	fresh := mustToken(t, source)
	for range 3 { // answers to requests that were sent before the old token was replaced
		source.Invalidate(old)
	}
	if now := mustToken(t, source); now.serial != fresh.serial {
		t.Errorf("the token is number %d, want number %d still", now.serial, fresh.serial)
	}
	if got := p.tokenRequests(); got != 2 {
		t.Errorf("token requests: got %d, want 2: the first and one refresh", got)
	}
}

func TestUSE3_a_revoked_token_is_replaced_and_the_request_replayed_with_its_body(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	p.resource = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	client := http.Client{Transport: source.Transport(nil, TransportOptions{})}
	mustToken(t, source)
	p.set(func(p *payer) { p.revoked[p.issued[0]] = true })
	response, err := client.Post(p.base()+"/$export", "application/fhir+json", strings.NewReader("parameters"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK || string(body) != "parameters" {
		t.Errorf("got %d %q, want 200 and the body that was sent", response.StatusCode, body)
	}
}

func TestUSE3_a_401_with_a_fresh_token_surfaces_after_one_replay(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	resources := 0
	p.resource = func(w http.ResponseWriter, _ *http.Request) {
		resources++
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("not your job"))
	}
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	client := http.Client{Transport: source.Transport(nil, TransportOptions{})}
	for i := range 20 {
		response, err := client.Get(p.base() + "/jobs/7")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized || string(body) != "not your job" {
			t.Fatalf("request %d: got %d %q, want the server's own refusal", i, response.StatusCode, body)
		}
		if !Refused(response) {
			t.Errorf("request %d: the refusal is not marked as one of a fresh token", i)
		}
	}
	if got := p.tokenRequests(); got != 2 {
		t.Errorf("token requests: got %d, want 2: no refresh for each refusal", got)
	}
	if resources != 21 {
		t.Errorf("requests to the resource: got %d, want 21: one replay", resources)
	}
}

func TestUSE5_the_token_goes_to_no_other_origin(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var leaked []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		leaked = append(leaked, r.Header.Get("Authorization")+r.Header.Get("Epic-Client-Id"))
	}))
	defer other.Close()
	p := newPayer(t, testKey())
	p.resource = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Epic-Client-Id") != "gateway-key" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		http.Redirect(w, r, other.URL+"/file", http.StatusTemporaryRedirect)
	}
	registration := p.registration(testKey())
	registration.Headers = map[string]string{"Epic-Client-ID": "gateway-key"}
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), registration)
	client := http.Client{Transport: source.Transport(nil, TransportOptions{})}
	for _, url := range []string{p.base() + "/file", other.URL + "/direct"} {
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("GET %s: got %d, want 200", url, response.StatusCode)
		}
	}
	mu.Lock()
	if len(leaked) != 2 || leaked[0] != "" || leaked[1] != "" {
		t.Errorf("the other origin saw %q, want two requests without credentials", leaked)
	}
	leaked = nil
	mu.Unlock()

	listed := http.Client{Transport: source.Transport(nil, TransportOptions{TokenOrigins: []string{other.URL}})}
	response, err := listed.Get(other.URL + "/listed")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(leaked) != 1 || !strings.HasPrefix(leaked[0], "Bearer ") || strings.Contains(leaked[0], "gateway-key") {
		t.Errorf("the listed origin saw %q, want the token and not the payer's header", leaked)
	}
}

func TestManager_stops_once_and_for_all(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	m := NewManager(ManagerOptions{})
	source := newTestSource(t, m, p.registration(testKey()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	token := mustToken(t, source)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("Run: got %v, want nil", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not return after its context ended")
	}
	m.Close()
	if err := m.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a second Run: got %v, want ErrClosed", err)
	}
	if got := mustToken(t, source); got.serial != token.serial {
		t.Error("the live token is not to be had any more")
	}
	source.Invalidate(token)
	if _, err := source.Token(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Token after the end: got %v, want ErrClosed", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
