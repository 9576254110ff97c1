package smartauth

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// transport adds tokens to requests (SMART App Launch 2.2, Backend Services, Access FHIR API).
type transport struct {
	source  *Source
	base    http.RoundTripper
	allowed map[origin]bool
}

type withoutTokenKey struct{}

// WithoutToken marks requests that must not carry a token although their origin may have it: files of a manifest that says
// requiresAccessToken: false.
func WithoutToken(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutTokenKey{}, true)
}

type refusedKey struct{}

// Refused reports whether a response is a refusal of a request that carried a token fetched for it a moment ago: not a
// matter of expiry, so another token will not help. The server means the client, its rights, or the resource.
func Refused(response *http.Response) bool {
	if response == nil || response.Request == nil {
		return false
	}
	refused, _ := response.Request.Context().Value(refusedKey{}).(bool)
	return refused
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	registration := t.source.registration
	out := request.Clone(ctx)
	headersFor(out, t.source.home, registration.Headers)
	if registration.Method == MethodNone || !t.allowed[originOf(request.URL)] || ctx.Value(withoutTokenKey{}) != nil {
		return t.base.RoundTrip(out) //nolint:wrapcheck // a RoundTripper passes errors of its base on
	}
	token, err := t.source.Token(ctx)
	if err != nil {
		closeBody(request)
		return nil, err
	}
	out.Header.Set("Authorization", token.authorization())
	response, err := t.base.RoundTrip(out)
	if err != nil || !refuses(response, token) {
		return response, err //nolint:wrapcheck // see above
	}
	return t.replay(request, response, token)
}

// replay sends a refused request once more, with another token. It returns the refusal where that is of no use.
func (t *transport) replay(request *http.Request, response *http.Response, token Token) (*http.Response, error) {
	grant := t.source.current()
	t.source.manager.metrics.refused(t.source.registration.Payer, response.StatusCode)
	if grant == nil || !grant.refused(token) {
		return t.surface(request.Context(), response, token), nil
	}
	out := request.Clone(request.Context())
	switch {
	case request.Body == nil || request.Body == http.NoBody:
	case request.GetBody == nil:
		return response, nil // the next request gets the new token; this one cannot be sent again
	default:
		body, err := request.GetBody()
		if err != nil {
			return response, nil //nolint:nilerr // the refusal is the answer
		}
		out.Body = body
	}
	// The connection is given back before the wait: the token request may need it, where the number of connections is bounded.
	release(response)
	next, err := t.source.Token(request.Context())
	if err != nil {
		closeBody(out)
		return nil, err
	}
	if next.serial == token.serial {
		closeBody(out)
		return response, nil
	}
	headersFor(out, t.source.home, t.source.registration.Headers)
	out.Header.Set("Authorization", next.authorization())
	replayed, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, err //nolint:wrapcheck // a RoundTripper passes errors of its base on
	}
	if !unauthorized(replayed) {
		return replayed, nil
	}
	grant.refusedAgain(next)
	return t.surface(request.Context(), replayed, next), nil
}

// surface gives a refusal that a new token did not mend back to the caller, marked as such.
func (t *transport) surface(ctx context.Context, response *http.Response, token Token) *http.Response {
	t.source.manager.logger.WarnContext(ctx,
		"the payer refuses a fresh access token: not expiry, but the client, its rights or the resource",
		slog.String("payer", t.source.registration.Payer), slog.Int("status", response.StatusCode),
		slog.Duration("token_age", time.Since(token.Obtained).Round(time.Millisecond)))
	if response.Request != nil {
		//nolint:contextcheck // the mark goes into the context that the response came with
		response.Request = response.Request.WithContext(context.WithValue(response.Request.Context(), refusedKey{}, true))
	}
	return response
}

func (s *Source) current() *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant
}

func unauthorized(response *http.Response) bool {
	return response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
}

var insufficientScope = regexp.MustCompile(`(?i)error\s*=\s*"?insufficient_scope`)

// refuses reports whether a response may mean that the token is over: 401, and 403 of servers that say so of an expired
// token, unless it names the scope or the token is young.
func refuses(response *http.Response, token Token) bool {
	switch response.StatusCode {
	case http.StatusUnauthorized:
		return true
	case http.StatusForbidden:
		if slices.ContainsFunc(response.Header.Values("WWW-Authenticate"), insufficientScope.MatchString) {
			return false
		}
		return time.Since(token.Obtained) >= freshAge
	}
	return false
}

// maxRefusal is how much is kept of the body of a refusal: an OperationOutcome has room in it.
const maxRefusal = 64 << 10

// releaseTime is how long that is waited for: nothing above this layer watches a body that is not handed on.
const releaseTime = 2 * time.Second

// release lets the connection of a response be used again and keeps the start of its body.
func release(response *http.Response) {
	body := response.Body
	timer := time.AfterFunc(releaseTime, func() { _ = body.Close() })
	start, _ := io.ReadAll(io.LimitReader(body, maxRefusal)) // what broke off is as good as nothing
	timer.Stop()
	_ = body.Close()
	response.Body = io.NopCloser(bytes.NewReader(start))
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		_ = request.Body.Close()
	}
}
