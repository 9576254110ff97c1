package smartauth

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tokenServer answers every token request with a body of its own.
func tokenServer(t *testing.T, body []byte, header http.Header) Registration {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return Registration{
		Payer: "acme", FHIRURL: server.URL + "/fhir", TokenURL: server.URL + "/token", Method: MethodClientSecretPost, ClientID: "us",
		ClientSecret: func(context.Context) (string, error) { return "secret", nil }, Types: []string{"Patient"},
		Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}, // as package outbound has it
	}
}

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTOK3_token_answers_of_every_wrapping_are_read(t *testing.T) {
	t.Parallel()
	const plain = `{"access_token":"good-token","token_type":"bearer","expires_in":300}`
	for name, test := range map[string]struct {
		body   []byte
		header http.Header
	}{
		"byte order mark":         {body: []byte("\ufeff" + plain)},
		"gzip that nobody wanted": {body: gzipped(t, plain), header: http.Header{"Content-Encoding": {"gzip"}}},
		"gzip that nobody named":  {body: gzipped(t, plain)},
		"Apigee's token type":     {body: []byte(`{"access_token":"good-token","token_type":"BearerToken","expires_in":"1799"}`)},
		"a type with a space":     {body: []byte(`{"access_token":"good-token","token_type":"Bearer ","expires_in":300}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newTestManager(t, ManagerOptions{Patience: 3 * time.Second})
			token, err := newTestSource(t, m, tokenServer(t, test.body, test.header)).Token(t.Context())
			if err != nil || token.authorization() != "Bearer good-token" {
				t.Errorf("got %v, want the token", err)
			}
		})
	}
}

func TestTOK9_a_small_answer_that_expands_without_end_is_bounded(t *testing.T) {
	t.Parallel()
	m := newTestManager(t, ManagerOptions{Patience: time.Second})
	_, err := newTestSource(t, m, tokenServer(t, gzipped(t, strings.Repeat(" ", 4*maxResponse)), nil)).Token(t.Context())
	if failure := asError(t, err); failure.Code != CodeBadResponse || !strings.Contains(failure.Description, "1 MiB") {
		t.Errorf("got %v, want bad_response for its length", failure)
	}
}

func TestDISC1_documents_of_every_wrapping_are_read(t *testing.T) {
	t.Parallel()
	const capability = `{"resourceType":"CapabilityStatement","rest":[{"security":{"extension":[{"url":"` + oauthURIs +
		`","extension":[{"url":"token","valueUri":%q}]}]}}]}`
	for name, wrap := range map[string]func(string) string{
		"byte order mark":         func(text string) string { return "\ufeff" + text },
		"gzip that nobody wanted": func(text string) string { return string(gzipped(t, text)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, testKey())
			registration := p.registration(testKey())
			registration.Transport = &http.Transport{DisableCompression: true, DisableKeepAlives: true}
			p.set(func(p *payer) { p.smart = wrap(p.smart) })
			m := newTestManager(t, ManagerOptions{Patience: 3 * time.Second})
			if found, err := newTestSource(t, m, registration).Discover(t.Context()); err != nil || found.Source != "smart-configuration" {
				t.Errorf("got %+v, %v, want the well-known document", found, err)
			}
			p.set(func(p *payer) { p.smart, p.metadata = "", wrap(fmt.Sprintf(capability, p.audience)) })
			other := newTestManager(t, ManagerOptions{Patience: 3 * time.Second})
			if found, err := newTestSource(t, other, registration).Discover(t.Context()); err != nil || found.TokenEndpoint != p.audience {
				t.Errorf("got %+v, %v, want the CapabilityStatement's endpoint", found, err)
			}
		})
	}
}

// TestJWT4_a_Date_that_lies_does_not_spoil_assertions: the Date may be a gateway's, and the clock that judges another.
func TestJWT4_a_Date_that_lies_does_not_spoil_assertions(t *testing.T) {
	t.Parallel()
	for _, lie := range []time.Duration{-5 * time.Hour, 20 * time.Minute} {
		t.Run(lie.String(), func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, testKey())
			dated := func(w http.ResponseWriter) {
				w.Header().Set("Date", time.Now().Add(lie).UTC().Format(http.TimeFormat))
			}
			p.before = func(_ int, w http.ResponseWriter, _ *http.Request) bool { dated(w); return false }
			registration := p.registration(testKey())
			registration.TokenURL = p.audience
			s := newTestSource(t, newTestManager(t, ManagerOptions{Patience: 20 * time.Second}), registration)
			for n := range 4 {
				token, err := s.Token(t.Context())
				if err != nil {
					t.Fatalf("token %d: %v", n+1, err)
				}
				if n == 2 {
					if got := p.tokenRequests(); got > 5 {
						t.Errorf("three tokens took %d requests: the lie is not remembered", got)
					}
				}
				s.Invalidate(token)
			}
		})
	}
}

// TestUSE3_a_refusal_whose_body_never_ends_holds_nobody: the status says all, and what comes behind it is waited for a moment.
func TestUSE3_a_refusal_whose_body_never_ends_holds_nobody(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	over := make(chan struct{})
	var asked atomic.Int32
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 1 {
			_, _ = w.Write([]byte("resource"))
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"resourceType":"OperationOutcome",`))
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	t.Cleanup(files.Close)
	t.Cleanup(func() { close(over) })
	base := &http.Transport{DisableKeepAlives: true}
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey()))
	client := http.Client{Transport: source.Transport(base, TransportOptions{TokenOrigins: []string{files.URL}})}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, files.URL+"/file", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("got %v, want the answer to the request with another token", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		t.Errorf("got HTTP %d, want 200", response.StatusCode)
	}
}
