package smartauth

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestDISC2_a_relative_endpoint_is_resolved_against_the_base_and_must_be_https(t *testing.T) {
	t.Parallel()
	base, err := url.Parse("https://fhir.example.org/apis/r4")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ endpoint, want, refused string }{
		{"https://auth.example.org/Token/?a=b%2fc", "https://auth.example.org/Token/?a=b%2fc", ""},
		{"HTTPS://Auth.Example.org:443/token", "HTTPS://Auth.Example.org:443/token", ""},
		{"/auth/token", "https://fhir.example.org/auth/token", ""},
		{"auth/token", "https://fhir.example.org/apis/r4/auth/token", ""},
		{"//host.example/token", "https://host.example/token", ""},
		{"http://127.0.0.1:8180/token", "http://127.0.0.1:8180/token", ""},
		{"http://[::1]/token", "http://[::1]/token", ""},
		{"http://auth.example.org/token", "", "https is required"},
		{"http://localhost.example.org/token", "", "https is required"},
		{"https://user:pass@auth.example.org/token", "", "user name"},
		{"https://auth.example.org/token#x", "", "fragment"},
		{"ftp://auth.example.org/token", "", "scheme"},
		{"https:///token", "", "no host"},
		{"https://auth.example.org:x/token", "", "not a URL"},
	} {
		got, err := resolveEndpoint(base, test.endpoint)
		if got != test.want || (err != nil) != (test.refused != "") || (err != nil && !strings.Contains(err.Error(), test.refused)) {
			t.Errorf("%s: got %q, %v; want %q, %q", test.endpoint, got, err, test.want, test.refused)
		}
	}
}

func TestDISC3_a_document_with_only_a_token_endpoint_is_enough(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	p.smart = `{"token_endpoint": "/auth/token", "capabilities": "wrong type", "scopes_supported": [1, "system/*.rs"]}`
	var log bytes.Buffer
	m := newTestManager(t, ManagerOptions{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	registration := p.registration(testKey())
	registration.FHIRURL += "/" // DISC-1: with or without
	source := newTestSource(t, m, registration)
	token := mustToken(t, source)
	if !slices.Equal(token.Scopes, []string{"system/Patient.rs"}) {
		t.Errorf("scopes: got %v, want those of the syntax that scopes_supported shows", token.Scopes)
	}
	m.Close()
	if !strings.Contains(log.String(), "does not say which methods") {
		t.Errorf("no warning about what the document leaves out: %s", log.String())
	}
	found, err := source.Discover(t.Context())
	if err != nil || found.Source != "smart-configuration" || len(found.Warnings) != 1 {
		t.Errorf("Discover: got %+v, %v", found, err)
	}
}

func TestDISC4_sources_are_asked_in_order(t *testing.T) {
	t.Parallel()
	capability := `{"resourceType":"CapabilityStatement","rest":[{"security":{"extension":[{"url":"other"},{"url":"` + oauthURIs +
		`","extension":[{"url":"authorize","valueUri":"https://x/authorize"},{"url":"token","valueUri":"/auth/token"}]}]}}]}`
	p := newPayer(t, testKey())
	p.metadata = capability
	ask := func() (*Discovery, error) {
		return newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey())).Discover(t.Context())
	}
	registration := p.registration(testKey())
	registration.TokenURL = p.audience
	configured := newTestSource(t, newTestManager(t, ManagerOptions{}), registration)
	if found, err := configured.Discover(t.Context()); err != nil || found.Source != "token_url" {
		t.Errorf("with token_url: got %+v, %v", found, err)
	}
	mustToken(t, configured)
	for _, r := range p.requests {
		if r.Method == http.MethodGet {
			t.Errorf("with token_url: %s was read", r.URL.Path)
		}
	}
	if found, err := ask(); err != nil || found.Source != "smart-configuration" {
		t.Errorf("with the well-known document: got %+v, %v", found, err)
	}
	p.set(func(p *payer) { p.smart = "" })
	if found, err := ask(); err != nil || found.Source != "CapabilityStatement" || found.TokenEndpoint != p.audience {
		t.Errorf("with the CapabilityStatement: got %+v, %v", found, err)
	}
	p.set(func(p *payer) { p.metadata = "" })
	_, err := ask()
	failure := asError(t, err)
	for _, name := range []string{"token_url", "smart-configuration", "CapabilityStatement"} {
		if !strings.Contains(failure.Error(), name) {
			t.Errorf("without any: %q does not name %s", failure, name)
		}
	}
	if failure.Code != CodeDiscovery || failure.Temporary {
		t.Errorf("without any: got %v, want a permanent discovery error", failure)
	}
}

func TestDISC5_discovery_that_fails_later_stops_nothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		var broken atomic.Bool
		server := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
			}
			reads.Add(1)
			if broken.Load() {
				return answer(r, 503, "", nil), nil
			}
			return answer(r, 200, `{"token_endpoint":"https://auth.example/token"}`, nil), nil
		})
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
		})
		mustToken(t, source)
		broken.Store(true)
		for range 3 * 24 {
			mustToken(t, source)
			time.Sleep(time.Hour)
		}
		if got := reads.Load(); got < 3 || got > 200 {
			t.Errorf("readings in three days, two of them in vain: got %d", got)
		}
		broken.Store(false)
		time.Sleep(time.Minute)
		mustToken(t, source)
		synctest.Wait()
		before := reads.Load()
		for range 23 {
			mustToken(t, source)
			time.Sleep(time.Hour)
		}
		if got := reads.Load(); got != before {
			t.Errorf("the document was read %d times within a day of being read", got-before)
		}
	})
}

func TestDISC5_a_token_endpoint_that_moved_is_found_again(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*http.Request) (*http.Response, error){
		"410": func(r *http.Request) (*http.Response, error) { return answer(r, 410, "", nil), nil },
		"its name vanished": func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "old.example", IsNotFound: true}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testMovedEndpoint(t, gone)
		})
	}
}

func testMovedEndpoint(t *testing.T, gone func(*http.Request) (*http.Response, error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		endpoint := "https://old.example/token"
		server := roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.Method == http.MethodGet:
				return answer(r, 200, `{"token_endpoint":"`+endpoint+`"}`, nil), nil
			case r.URL.String() == endpoint:
				return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
			default:
				return gone(r)
			}
		})
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
		})
		mustToken(t, source)
		time.Sleep(time.Hour)
		mu.Lock()
		endpoint = "https://new.example/token"
		mu.Unlock()
		start := time.Now()
		mustToken(t, source)
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("waited %s for the new endpoint", waited)
		}
		if got := len(source.manager.Status()); got != 2 {
			t.Errorf("token endpoints known: got %d, want the old and the new one", got)
		}
	})
}

func TestDiscovery_waits_through_passing_failures_and_asks_once_for_all(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		server := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
			}
			if reads.Add(1) <= 4 { // two documents, twice
				return answer(r, 503, "", nil), nil
			}
			return answer(r, 200, `{"token_endpoint":"https://auth.example/token"}`, nil), nil
		})
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
		})
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() { mustToken(t, source) })
		}
		group.Wait()
		if got := reads.Load(); got != 5 {
			t.Errorf("readings: got %d, want 5", got)
		}
	})
}

func TestUSE6_extra_headers_go_to_the_payers_origin_only(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := make(map[string]string)
	server := roundTripper(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Host+r.URL.Path] = r.Header.Get("Epic-Client-Id")
		switch {
		case r.Method == http.MethodPost:
			return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
		case r.URL.Host == "fhir.example" && r.URL.Path == "/.well-known/smart-configuration":
			return answer(r, 302, "", http.Header{"Location": {"https://cdn.example/smart"}}), nil
		default:
			return answer(r, 200, `{"token_endpoint":"https://auth.example/token"}`, nil), nil
		}
	})
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
		Headers: map[string]string{"Epic-Client-ID": "gateway-key"},
	})
	mustToken(t, source)
	for address, want := range map[string]string{
		"fhir.example/.well-known/smart-configuration": "gateway-key", "cdn.example/smart": "", "auth.example/token": "",
	} {
		if value, ok := got[address]; !ok || value != want {
			t.Errorf("%s: got %q (requested: %t), want %q", address, value, ok, want)
		}
	}
}

func TestDiscovery_does_not_follow_a_redirect_to_http(t *testing.T) {
	t.Parallel()
	server := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" {
			t.Error("http was requested")
		}
		return answer(r, 302, "", http.Header{"Location": {"http://fhir.example/smart"}}), nil
	})
	source := newTestSource(t, newTestManager(t, ManagerOptions{Patience: 100 * time.Millisecond}), Registration{
		Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := source.Token(ctx)
	if failure := asError(t, err); !strings.Contains(failure.Error(), "https is required") {
		t.Errorf("got %v, want why the redirect was not followed", failure)
	}
}

func TestManager_makes_a_source_while_another_waits_for_the_same_discovery(t *testing.T) {
	t.Parallel()
	server := roundTripper(func(r *http.Request) (*http.Response, error) { return answer(r, 503, "", nil), nil })
	manager := newTestManager(t, ManagerOptions{})
	registration := Registration{
		Payer: "acme", FHIRURL: "https://fhir.example", ClientID: "c", Keys: []*Key{testKey()}, Transport: server,
	}
	first := newTestSource(t, manager, registration)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 2000 { // each forgets the failure, so that the other side reads again
				newTestSource(t, manager, registration)
			}
		})
		group.Go(func() {
			for range 2000 {
				_, _, _ = first.directory.look(time.Time{}, time.Now())
			}
		})
	}
	group.Wait()
}
