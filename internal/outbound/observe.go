package outbound

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// Endpoint says what a request is for. There are no others than these: what a payer names never becomes one.
type Endpoint string

// The endpoints of a payer.
const (
	EndpointDiscovery  Endpoint = "discovery"
	EndpointToken      Endpoint = "token"
	EndpointKickOff    Endpoint = "kick_off"
	EndpointStatus     Endpoint = "status"
	EndpointManifest   Endpoint = "manifest" // its further pages; the first one is the answer to a status request
	EndpointFile       Endpoint = "file"
	EndpointAttachment Endpoint = "attachment"
	EndpointDelete     Endpoint = "delete"
	EndpointMetadata   Endpoint = "metadata"
	EndpointOther      Endpoint = "other"
)

// Endpoints are all of them.
func Endpoints() []Endpoint {
	return []Endpoint{
		EndpointDiscovery, EndpointToken, EndpointKickOff, EndpointStatus, EndpointManifest, EndpointFile, EndpointAttachment,
		EndpointDelete, EndpointMetadata, EndpointOther,
	}
}

// Exchange is one request that was sent, and what came of it up to the header of the response.
type Exchange struct {
	Endpoint Endpoint
	// Status is that of the response, 0 where none came; Failure is then the code of the *Error, or empty where the caller gave up.
	Status  int
	Failure string
	Took    time.Duration
	// Repeated says that the same exchange had been sent before: after a broken connection, or with a token that was refused.
	Repeated bool
	// CertificateExpiry is when the certificate of the server ends, zero without TLS.
	CertificateExpiry time.Time
}

// purpose is what a context says of the requests that are made with it.
type purpose struct {
	endpoint Endpoint
	sent     atomic.Int32
}

type purposeKey struct{}

// For returns a context for the requests of one exchange with an endpoint.
func For(ctx context.Context, endpoint Endpoint) context.Context {
	return context.WithValue(ctx, purposeKey{}, &purpose{endpoint: endpoint})
}

// observe tells the observer of an exchange.
func (t *Transport) observe(request *http.Request, began time.Time, response *http.Response, err error) {
	if t.observer == nil {
		return
	}
	x := Exchange{Endpoint: EndpointOther, Took: time.Since(began)}
	if p, ok := request.Context().Value(purposeKey{}).(*purpose); ok {
		x.Endpoint, x.Repeated = p.endpoint, p.sent.Add(1) > 1
	}
	if err != nil {
		if known, ok := errors.AsType[*Error](err); ok {
			x.Failure = known.Code
		}
		t.observer(x)
		return
	}
	x.Status = response.StatusCode
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		x.CertificateExpiry = response.TLS.PeerCertificates[0].NotAfter
	}
	t.observer(x)
}

// Purposeful is a way out through next for requests that do not say themselves what they are for.
func Purposeful(next http.RoundTripper, endpoint func(*http.Request) Endpoint) http.RoundTripper {
	return &purposeful{next: next, endpoint: endpoint}
}

type purposeful struct {
	next     http.RoundTripper
	endpoint func(*http.Request) Endpoint
}

// RoundTrip implements http.RoundTripper.
func (p *purposeful) RoundTrip(request *http.Request) (*http.Response, error) {
	return p.next.RoundTrip(request.WithContext(For(request.Context(), p.endpoint(request)))) //nolint:wrapcheck // a RoundTripper passes errors on
}

// ClientCertificateExpiry is when the configured client certificate ends; zero where there is none.
func (t *Transport) ClientCertificateExpiry() time.Time { return t.clientExpiry }
