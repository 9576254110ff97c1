package smartauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// get sends a request through wire and returns the response, whose body is closed.
func get(t *testing.T, ctx context.Context, wire http.RoundTripper, url string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := wire.RoundTrip(request)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	_ = response.Body.Close()
	return response
}

// memorySource is a source whose token endpoint always answers, with tokens t1, t2, … of the given life in seconds.
func memorySource(t *testing.T, life string, requests *atomic.Int64) *Source {
	t.Helper()
	return newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "acme", FHIRURL: "https://fhir.example/r4", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			n := requests.Add(1)
			return answer(r, 200, `{"access_token":"t`+string(rune('0'+n))+`","expires_in":`+life+`}`, nil), nil
		}),
	})
}

func TestUSE4_a_403_is_taken_for_an_expired_token_only_where_it_may_be_one(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		age       time.Duration
		challenge string
		replayed  bool
	}{
		{"old token", 2 * time.Minute, "", true},
		{"old token, other challenge", 2 * time.Minute, `Bearer error="invalid_token"`, true},
		{"young token", 30 * time.Second, "", false},
		{"the scope is named", 2 * time.Minute, `Bearer realm="x", error="insufficient_scope"`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var tokens atomic.Int64
				source := memorySource(t, "3600", &tokens)
				requests := 0
				wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					requests++
					if r.Header.Get("Authorization") == "Bearer t1" {
						return answer(r, http.StatusForbidden, "", http.Header{"Www-Authenticate": {test.challenge}}), nil
					}
					return answer(r, http.StatusOK, "", nil), nil
				}), TransportOptions{})
				mustToken(t, source)
				time.Sleep(test.age)
				response := get(t, t.Context(), wire, "https://fhir.example/r4/Patient")
				if replayed := response.StatusCode == http.StatusOK; replayed != test.replayed || (requests == 2) != test.replayed {
					t.Errorf("got HTTP %d after %d requests, want replayed: %t", response.StatusCode, requests, test.replayed)
				}
			})
		})
	}
}

func TestUSE2_a_live_token_serves_while_the_endpoint_fails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		var requests atomic.Int64
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example/r4", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests.Add(1)
				if broken.Load() {
					return answer(r, 401, `{"error":"invalid_client"}`, nil), nil
				}
				return answer(r, 200, `{"access_token":"t","expires_in":3600}`, nil), nil
			}),
		})
		first := mustToken(t, source)
		broken.Store(true)
		for time.Since(first.Obtained) < 59*time.Minute {
			start := time.Now()
			if token := mustToken(t, source); token.serial != first.serial || time.Since(start) > 0 {
				t.Fatalf("after %s: another token, or a wait of %s", time.Since(first.Obtained), time.Since(start))
			}
			time.Sleep(10 * time.Second)
		}
		if requests.Load() < 3 {
			t.Errorf("requests: got %d, want attempts to renew the token ahead", requests.Load())
		}
		broken.Store(false)
		time.Sleep(2 * time.Minute)
		start := time.Now()
		for { // the pause after refusals is minutes; a caller is told of it rather than kept
			token, err := source.Token(t.Context())
			if err == nil {
				if token.serial == first.serial {
					t.Error("the token of an hour ago was used")
				}
				break
			}
			if failure := asError(t, err); failure.RetryAfter <= 0 || failure.RetryAfter > 20*time.Minute {
				t.Fatalf("got %v, retry after %s", failure, failure.RetryAfter)
			}
			time.Sleep(time.Minute)
			if time.Since(start) > 30*time.Minute {
				t.Fatal("no token within half an hour of the endpoint's return")
			}
		}
	})
}

func TestUSE2_an_idle_source_asks_for_nothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tokens atomic.Int64
		source := memorySource(t, "300", &tokens)
		mustToken(t, source)
		time.Sleep(24 * time.Hour)
		if got := tokens.Load(); got != 1 {
			t.Errorf("token requests of a day without callers: got %d, want 1", got)
		}
		mustToken(t, source)
		if got := tokens.Load(); got != 2 {
			t.Errorf("token requests after the pause: got %d, want 2", got)
		}
	})
}

func TestUSE7_a_body_that_outlives_the_token_is_read_to_its_end(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tokens atomic.Int64
		source := memorySource(t, "60", &tokens)
		wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			reader, writer := io.Pipe()
			go func() {
				for range 10 {
					time.Sleep(30 * time.Second)
					if _, err := io.WriteString(writer, "line\n"); err != nil {
						return
					}
				}
				_ = writer.Close()
			}()
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: reader, Request: r}, nil
		}), TransportOptions{})
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://fhir.example/r4/file", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := wire.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || strings.Count(string(body), "line") != 10 {
			t.Errorf("got %d lines, %v; want 10", strings.Count(string(body), "line"), err)
		}
	})
}

func TestTransport_sends_no_token_where_it_is_told_not_to(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	source := memorySource(t, "300", &tokens)
	var header string
	wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		header = r.Header.Get("Authorization")
		return answer(r, http.StatusUnauthorized, "", nil), nil
	}), TransportOptions{})
	get(t, WithoutToken(t.Context()), wire, "https://fhir.example/r4/file")
	if header != "" || tokens.Load() != 0 {
		t.Errorf("got %q and %d token requests, want none", header, tokens.Load())
	}
}

func TestUSE5_origins_are_scheme_host_and_port(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	source := memorySource(t, "300", &tokens)
	origins := []string{"files.example:8443", "http://127.0.0.1:9000", "http://files.example"}
	if err := CheckTokenOrigins(origins[:2]); err != nil {
		t.Error(err)
	}
	if err := CheckTokenOrigins(origins); err == nil {
		t.Error("an origin over http is accepted")
	}
	for address, want := range map[string]bool{
		"https://fhir.example/r4/x":           true,
		"https://fhir.example:443/other/path": true,
		"https://FHIR.example./r4/x":          true,
		"https://fhir.example:8443/r4/x":      false,
		"http://fhir.example/r4/x":            false,
		"https://sub.fhir.example/r4/x":       false,
		"https://fhir.example.evil/r4/x":      false,
		"https://files.example:8443/x":        true,
		"https://files.example/x":             false,
		"http://files.example/x":              false,
		"http://127.0.0.1:9000/x":             true,
		"http://127.0.0.1/x":                  false,
	} {
		var header string
		wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			header = r.Header.Get("Authorization")
			return answer(r, http.StatusOK, "", nil), nil
		}), TransportOptions{TokenOrigins: origins})
		get(t, t.Context(), wire, address)
		if got := header == "Bearer t1"; got != want || (!want && header != "") {
			t.Errorf("%s: got %q, want a token: %t", address, header, want)
		}
	}
}

func TestTransport_does_not_replay_a_body_that_it_cannot_have_again(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	source := memorySource(t, "300", &tokens)
	requests := 0
	wire := source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		requests++
		_, _ = io.Copy(io.Discard, r.Body)
		return answer(r, http.StatusUnauthorized, "", nil), nil
	}), TransportOptions{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://fhir.example/r4/x", io.NopCloser(strings.NewReader("once")))
	if err != nil {
		t.Fatal(err)
	}
	response, err := wire.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if requests != 1 || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %d requests, HTTP %d; want one, refused", requests, response.StatusCode)
	}
	if token := mustToken(t, source); token.value.reveal() != "t2" {
		t.Error("the refused token is still in use")
	}
}

func TestManager_slows_down_where_fresh_tokens_are_refused_one_after_the_other(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Another instance's token requests revoke ours: whatever token comes, it is over a moment later.
		requests := 0
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests++
				return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
			}),
		})
		end := time.Now().Add(10 * time.Minute)
		for time.Now().Before(end) {
			source.Invalidate(mustToken(t, source))
			time.Sleep(100 * time.Millisecond)
		}
		if requests > 30 {
			t.Errorf("token requests in ten minutes of ping-pong: got %d, want at most 30", requests)
		}
	})
}

func TestManager_gives_a_slow_token_endpoint_the_time_it_needs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests++
				select {
				case <-time.After(25 * time.Second):
					return answer(r, 200, `{"access_token":"t","expires_in":300}`, nil), nil
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}),
		})
		source.Invalidate(mustToken(t, source))
		before := requests
		mustToken(t, source)
		if requests != before+1 {
			t.Errorf("requests for the second token: got %d, want 1: the server is known to be slow", requests-before)
		}
	})
}

func TestManager_frees_callers_of_a_dead_token_endpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := newTestSource(t, newTestManager(t, ManagerOptions{Patience: time.Minute}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}),
		})
		start := time.Now()
		_, err := source.Token(t.Context())
		if failure := asError(t, err); failure.Code != CodeTimeout || !failure.Temporary {
			t.Errorf("got %v, want a temporary timeout", failure)
		}
		if waited := time.Since(start); waited > time.Minute {
			t.Errorf("waited %s, want the patience of a minute", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := source.Token(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Errorf("got %v after %s, want the caller's own deadline", err, time.Since(start))
		}
	})
}

// closingBody tells whether a request's body was closed.
type closingBody struct {
	io.Reader
	closed *bool
}

func (b closingBody) Close() error {
	*b.closed = true
	return nil
}

func TestTransport_closes_the_body_of_a_request_that_it_has_no_token_for(t *testing.T) {
	t.Parallel()
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusUnauthorized, `{"error":"invalid_client"}`, nil), nil
		}),
	})
	wire := source.Transport(roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("the request was sent without a token")
		return nil, errors.New("sent")
	}), TransportOptions{})
	closed := false
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://fhir.example/$export", closingBody{strings.NewReader("x"), &closed})
	if err != nil {
		t.Fatal(err)
	}
	response, err := wire.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	if failure := asError(t, err); failure.Code != "invalid_client" || !closed {
		t.Errorf("got %v, body closed: %t; want invalid_client and a closed body", failure, closed)
	}
}
