package export

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ingestd/internal/config"
	"ingestd/internal/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bearer adds a token to every request, as smartauth's transport does.
type bearer struct{ next http.RoundTripper }

func (b bearer) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer secret")
	return b.next.RoundTrip(request)
}

// payer is an HTTP server that stands for a payer, and the client for it.
type payer struct {
	*httptest.Server
	client *Client

	mu       sync.Mutex
	requests []*http.Request
}

// seen returns the requests so far.
func (p *payer) seen() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.requests...)
}

// newPayer starts a server with the given handler, whose FHIR base is at /fhir, and a client for it. The configuration can
// be changed by edits, which see the server's own URL in FHIRURL.
func newPayer(t *testing.T, handler http.HandlerFunc, edits ...func(*Options)) *payer {
	t.Helper()
	p := &payer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r.Clone(context.WithoutCancel(r.Context())))
		p.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(p.Close)
	p.client = newClient(t, p.URL+"/fhir", edits...)
	return p
}

func newClient(t testing.TB, fhirURL string, edits ...func(*Options)) *Client {
	t.Helper()
	o := Options{
		Payer: config.Payer{
			Name:    "acme",
			FHIRURL: fhirURL,
			Export:  config.Export{Level: "group", GroupID: "42"},
			Limits:  config.Limits{PollMin: time.Millisecond, PollMax: time.Minute, Downloads: 4},
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, edit := range edits {
		edit(&o)
	}
	transport, err := outbound.New(outbound.ForPayer(o.Payer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	if o.Authorized == nil {
		o.Authorized = bearer{transport}
	}
	if o.Plain == nil {
		o.Plain = transport
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantError fails the test unless err is an *Error with the given code and action, and returns it.
func wantError(t *testing.T, err error, code string, action Action) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want one with code %s", err, code)
	}
	if e.Code != code || e.Action != action {
		t.Fatalf("got %s, %s (%v), want %s, %s", e.Code, e.Action, e, code, action)
	}
	return e
}

func answer(status int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestNew_refuses_what_cannot_work(t *testing.T) {
	t.Parallel()
	for _, fhirURL := range []string{"", "ftp://x/fhir", "https://", "https://u:p@x/fhir", "https://x/fhir?a=b", "::"} {
		_, err := New(Options{
			Payer: config.Payer{Name: "acme", FHIRURL: fhirURL}, Authorized: http.DefaultTransport, Plain: http.DefaultTransport,
		})
		if err == nil || !strings.Contains(err.Error(), "acme") {
			t.Errorf("fhir_url %q: got %v, want an error that names the payer", fhirURL, err)
		}
	}
	if _, err := New(Options{Payer: config.Payer{FHIRURL: "https://x"}}); err == nil {
		t.Error("got no error without transports")
	}
}
