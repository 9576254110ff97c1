package smartauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Source gives the tokens of one registration. Make it with Manager.Source.
type Source struct {
	manager      *Manager
	registration *Registration
	base         *url.URL
	home         origin
	directory    *directory // nil where nothing is to be discovered

	mu    sync.Mutex
	found *Discovery
	grant *grant
}

// Token returns a live token. It waits only when there is none, for as long as ManagerOptions.Patience, and goes on trying
// through temporary failures. The error is an *Error, ErrClosed, or the context's. With method none it returns the zero
// Token.
func (s *Source) Token(ctx context.Context) (Token, error) {
	if s.registration.Method == MethodNone {
		return Token{}, nil
	}
	asked := time.Now()
	g, err := s.resolve(ctx, time.Time{})
	if err != nil {
		return Token{}, err
	}
	token, err := g.wait(ctx, s.directory != nil)
	var failure *Error
	if errors.As(err, &failure) && failure.rediscover && s.directory != nil {
		// The endpoint may have moved: look it up again, and go on with what is found, which may be the same.
		current, lookupErr := s.resolve(ctx, asked)
		if lookupErr == nil && (current != g || failure.Temporary) {
			token, err = current.wait(ctx, false)
		}
	}
	if err != nil {
		return Token{}, err
	}
	token.MissingTypes = missingTypes(token.Scopes, s.registration.Types, s.asksForTypes(token))
	return token, nil
}

// asksForTypes reports whether scopes speak of resource types here: those that are asked for, or those of a token.
func (s *Source) asksForTypes(token Token) bool {
	return anySMART(s.registration.scopesFor(scopesV1)) || anySMART(token.Scopes)
}

// CheckScopes gets a token and returns an *Error with CodeScopeMissing that names the resource types which it does not
// cover, or the error of Token. All types are not a name: where the registration names none, a server that grants a list for
// the wildcard may mean all that it has, and that is told by Token.MissingTypes alone.
func (s *Source) CheckScopes(ctx context.Context) error {
	token, err := s.Token(ctx)
	if err != nil || len(token.MissingTypes) == 0 || slices.Contains(token.MissingTypes, "*") {
		return err
	}
	return &Error{
		Code: CodeScopeMissing, Hint: hintFor(CodeScopeMissing), Payer: s.registration.Payer, Host: s.base.Host,
		Description: "not granted: " + strings.Join(token.MissingTypes, ", "),
	}
}

// Covers gets a token and returns what tells whether it lets resources of a type be read, for an export that names no types: what a
// server grants for the wildcard may become less, and a type that it withdraws is then missing from what it sends (TOK-4, INC-4). Scopes of
// which none is a SMART scope say nothing of types. The error is that of Token.
func (s *Source) Covers(ctx context.Context) (func(resourceType string) bool, error) {
	token, err := s.Token(ctx)
	if err != nil {
		return nil, err
	}
	covered := coveredTypes(token.Scopes)
	if s.registration.Method == MethodNone || covered["*"] || !s.asksForTypes(token) || len(token.Scopes) > 0 && !anySMART(token.Scopes) {
		return func(string) bool { return true }, nil
	}
	return func(resourceType string) bool { return covered[resourceType] }, nil
}

// Invalidate drops the token if it is still the current one: of many callers that were refused with it, one causes a
// refresh.
func (s *Source) Invalidate(t Token) {
	s.mu.Lock()
	g := s.grant
	s.mu.Unlock()
	if g != nil {
		g.invalidate(t)
	}
}

// Discover returns what the payer says of its authorization server, from the cache where it is there. With a configured
// token_url nothing is read, and the result holds that alone.
func (s *Source) Discover(ctx context.Context) (*Discovery, error) {
	if s.directory == nil {
		return &Discovery{Source: "token_url", TokenEndpoint: s.registration.TokenURL}, nil
	}
	return s.directory.lookup(ctx, time.Time{})
}

// resolve finds the token endpoint and with it the shared state.
func (s *Source) resolve(ctx context.Context, after time.Time) (*grant, error) {
	s.mu.Lock()
	if s.directory == nil && s.grant != nil {
		defer s.mu.Unlock()
		return s.grant, nil
	}
	s.mu.Unlock()
	var found *Discovery
	var err error
	if s.directory == nil {
		found, err = s.Discover(ctx)
	} else {
		found, err = s.directory.lookup(ctx, after)
	}
	if err != nil {
		return nil, err
	}
	if err := s.manager.checkNamed(s, found.TokenEndpoint); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grant != nil && s.found == found {
		return s.grant, nil
	}
	g, err := s.manager.grantOf(s, found)
	if err != nil {
		return nil, err
	}
	s.found, s.grant = found, g
	return g, nil
}

// TransportOptions say where a token may go besides the FHIR server's own origin.
type TransportOptions struct {
	// TokenOrigins are further origins: URLs, or host or host:port for https.
	TokenOrigins []string
}

// Transport returns a RoundTripper that adds the source's token to requests to the FHIR server's own origin and to the listed
// ones, and to no other; the payer's extra headers go to its own origin. When a server refuses a token, the token is
// replaced once for all who used it, and the request is sent once more, if its body can be had again (GetBody). A
// second refusal is returned as it came: see Refused. base nil is a transport of the standard library's defaults.
//
// Use it below an http.Client: a redirect passes through it again, so that a token never follows one to another origin.
// Origins that cannot be parsed are not listed; CheckTokenOrigins tells beforehand.
func (s *Source) Transport(base http.RoundTripper, options TransportOptions) http.RoundTripper {
	if base == nil {
		base = s.registration.Transport
	}
	t := &transport{source: s, base: base, allowed: map[origin]bool{s.home: true}}
	for _, text := range options.TokenOrigins {
		if o, err := parseOrigin(text); err == nil {
			t.allowed[o] = true
		}
	}
	return t
}

// CheckTokenOrigins says whether Transport can use these origins: host, host:port or an https URL.
func CheckTokenOrigins(origins []string) error {
	for _, text := range origins {
		if _, err := parseOrigin(text); err != nil {
			return errors.Join(errors.New("origin "+truncate(text, 100)+" cannot be given a token"), err)
		}
	}
	return nil
}
