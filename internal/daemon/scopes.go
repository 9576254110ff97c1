package daemon

import (
	"net/http"
	"strings"

	"ingestd/internal/smartauth"
)

// scopeGate lets no export be kicked off by a token that does not cover its types. A server would leave the missing ones
// out without a word, and a full export without them would look as if the payer had deleted them (TOK-4, INC-4).
type scopeGate struct {
	source *smartauth.Source
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g scopeGate) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.URL.Path, "/$export") {
		if err := g.source.CheckScopes(request.Context()); err != nil {
			if request.Body != nil {
				_ = request.Body.Close() // nothing was read from it
			}
			return nil, err
		}
	}
	return g.next.RoundTrip(request) //nolint:wrapcheck // a RoundTripper passes errors of its base on
}
