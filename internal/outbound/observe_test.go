package outbound

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ingestd/internal/config"
)

// seen is what a transport told its observer.
type seen struct {
	mu        sync.Mutex
	exchanges []Exchange
}

func (s *seen) observe(x Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges = append(s.exchanges, x)
}

func TestTransport_tells_of_each_request_what_it_was_for_and_what_came(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var s seen
	transport, err := New(Options{FHIRURL: server.URL, TLS: config.TLS{CAFile: ca}, Observer: s.observe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	ctx := For(t.Context(), EndpointFile)
	for range 2 { // the second one repeats the first
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	server.CloseClientConnections()
	transport.CloseIdleConnections()
	server.Listener.Close()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	response, err := Purposeful(transport, func(*http.Request) Endpoint { return EndpointToken }).RoundTrip(request)
	if err == nil {
		response.Body.Close()
		t.Fatal("the server is gone, and answers")
	}
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("got %T: %v, want an *Error", err, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.exchanges) != 3 {
		t.Fatalf("got %+v, want three exchanges", s.exchanges)
	}
	for i, want := range []Exchange{
		{Endpoint: EndpointFile, Status: http.StatusTeapot, CertificateExpiry: server.Certificate().NotAfter},
		{Endpoint: EndpointFile, Status: http.StatusTeapot, CertificateExpiry: server.Certificate().NotAfter, Repeated: true},
		{Endpoint: EndpointToken, Failure: failure.Code},
	} {
		got := s.exchanges[i]
		got.Took = 0
		if got != want {
			t.Errorf("exchange %d: got %+v, want %+v", i, got, want)
		}
	}
}

func TestTransport_knows_when_its_client_certificate_ends(t *testing.T) {
	end := time.Now().Add(40 * 24 * time.Hour).Truncate(time.Second)
	client := issue(t, nil, func(c *x509.Certificate) { c.NotAfter = end })
	der, err := x509.MarshalPKCS8PrivateKey(client.key)
	if err != nil {
		t.Fatal(err)
	}
	key := file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	transport, err := New(Options{FHIRURL: "https://fhir.example", TLS: config.TLS{ClientCertificate: file(t, client.pem()), ClientKey: key}})
	if err != nil {
		t.Fatal(err)
	}
	if got := transport.ClientCertificateExpiry(); !got.Equal(end) {
		t.Errorf("got %s, want %s", got, end)
	}
}
