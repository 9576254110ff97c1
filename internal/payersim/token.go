package payersim

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxTokenFormBytes = 64 << 10
)

// oauthError is an error of the token endpoint. RFC 6749, 5.2.
type oauthError struct {
	status int
	code   string
	text   string
}

func (e *oauthError) Error() string { return e.code + ": " + e.text }

func invalidRequest(format string, args ...any) error {
	return &oauthError{http.StatusBadRequest, "invalid_request", fmt.Sprintf(format, args...)}
}

// serveToken is the token endpoint. SMART App Launch 2.2, Backend Services, Obtain access token.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	who, granted, err := s.tokenRequest(w, r)
	var no *oauthError
	switch {
	case errors.As(err, &no):
		s.count.tokenRefusals.Add(1)
		s.log.DebugContext(r.Context(), "token refused", "status", no.status, "error", no.code, "reason", no.text)
		if no.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		if no.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		writeJSON(w, no.status, map[string]string{"error": no.code, "error_description": no.text})
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	grant := func() string {
		s.count.tokens.Add(1)
		return s.issue(who.id, granted)
	}
	if bad := s.badAnswer("token.answers", s.plan().Token.Answers); bad != nil {
		s.misanswer(w, r, bad, func() { grant() })
		return
	}
	answer := map[string]any{
		"access_token": grant(),
		"token_type":   "bearer",
		"expires_in":   int64(s.opts.TokenLifetime / time.Second),
		"scope":        granted.String(),
	}
	writeJSON(w, http.StatusOK, replaceMembers(answer, s.plan().Token.Members))
}

// tokenRequest checks a token request and returns the client and what it is granted.
func (s *Server) tokenRequest(w http.ResponseWriter, r *http.Request) (*client, grants, error) {
	form, err := tokenForm(w, r)
	if err != nil {
		return nil, nil, err
	}
	who, err := s.whoAsks(r, form)
	if err != nil {
		return nil, nil, err
	}
	granted, err := s.grantTo(who, form)
	if err != nil {
		return nil, nil, err
	}
	if s.strike("token_endpoint_fail_first", s.plan().TokenEndpointFailFirst) {
		return nil, nil, &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "try again with a new assertion"}
	}
	return who, granted, nil
}

// whoAsks authenticates the client: by its secret, or else by its assertion.
func (s *Server) whoAsks(r *http.Request, form url.Values) (*client, error) {
	_, hasBasic := r.Header["Authorization"]
	if !form.Has("client_assertion") && (hasBasic || form.Has("client_secret")) {
		return s.knowsSecret(r, form)
	}
	if hasBasic {
		return nil, invalidRequest("a request with client_assertion must not carry an Authorization header")
	}
	if err := checkAssertionForm(form); err != nil {
		return nil, err
	}
	who, err := s.authenticate(r.Context(), form.Get("client_assertion"), s.origin(r)+tokenPath)
	if err != nil {
		return nil, &oauthError{http.StatusBadRequest, "invalid_client", err.Error()}
	}
	if id := form.Get("client_id"); form.Has("client_id") && id != who.id {
		return nil, &oauthError{http.StatusBadRequest, "invalid_client", "client_id is not the assertion's issuer"}
	}
	return who, nil
}

// grantTo is what of the asked scopes the client gets.
func (s *Server) grantTo(who *client, form url.Values) (grants, error) {
	granted := who.grants
	switch {
	case who.exactScope != "" && form.Get("scope") != who.exactScope:
		return nil, &oauthError{http.StatusBadRequest, "invalid_scope", "the scope must be " + who.exactScope}
	case who.exactScope == "" && form.Has("scope"):
		asked, err := s.askedScopes(form.Get("scope"))
		if err != nil {
			return nil, &oauthError{http.StatusBadRequest, "invalid_scope", err.Error()}
		}
		granted = who.grants.cut(asked)
	}
	granted = granted.without(s.plan().Token.WithoutTypes, s.source.types())
	if len(granted) == 0 {
		return nil, &oauthError{http.StatusBadRequest, "invalid_scope", "none of these scopes is open to this client"}
	}
	return granted, nil
}

// tokenForm reads the request's form and refuses whatever a token request does not consist of (TOK-1).
func tokenForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		return nil, &oauthError{http.StatusMethodNotAllowed, "invalid_request", "the token endpoint accepts POST only"}
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("the token endpoint takes nothing from the query")
	}
	_, hasBasic := r.Header["Authorization"]
	bare := hasBasic && r.ContentLength == 0 // BCDA's clients send nothing but the header
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); !bare && (err != nil ||
		media != "application/x-www-form-urlencoded" || len(r.Header["Content-Type"]) != 1) {
		return nil, invalidRequest("Content-Type must be application/x-www-form-urlencoded")
	}
	if accept := r.Header.Get("Accept"); accept != "" && !accepts(accept, "application/json") {
		return nil, &oauthError{http.StatusNotAcceptable, "invalid_request", "the answer is application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenFormBytes))
	if err != nil {
		return nil, invalidRequest("the form cannot be read or is over %d bytes", maxTokenFormBytes)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("the body is not a form")
	}
	known := []string{"grant_type", "scope", "client_id", "client_secret", "client_assertion_type", "client_assertion"}
	for name, values := range form {
		if !slices.Contains(known, name) {
			return nil, invalidRequest("parameter %q is not known", name)
		}
		if len(values) != 1 {
			return nil, invalidRequest("parameter %q appears %d times", name, len(values))
		}
	}
	return form, nil
}

// checkAssertionForm demands what a request with a client assertion consists of (TOK-1).
func checkAssertionForm(form url.Values) error {
	for _, name := range []string{"grant_type", "scope", "client_assertion_type", "client_assertion"} {
		if form.Get(name) == "" {
			return invalidRequest("parameter %q is missing", name)
		}
	}
	if form.Has("client_secret") {
		return invalidRequest("a request with client_assertion must not hold a client_secret")
	}
	if form.Get("grant_type") != "client_credentials" {
		return &oauthError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials"}
	}
	if form.Get("client_assertion_type") != assertionType {
		return invalidRequest("client_assertion_type must be %s", assertionType)
	}
	return nil
}

// accepts tells whether an Accept header covers a media type.
func accepts(header, mediaType string) bool {
	kind, _, _ := strings.Cut(mediaType, "/")
	for part := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err == nil && params["q"] != "0" && (media == mediaType || media == "*/*" || media == kind+"/*") {
			return true
		}
	}
	return false
}

// askedScopes reads the scope parameter in the spelling that this payer understands.
func (s *Server) askedScopes(text string) (grants, error) {
	asked, err := parseGrants(text)
	if err != nil {
		return nil, err
	}
	for _, sc := range asked {
		if s.opts.ScopeSyntax == "v1" && sc.v2 || s.opts.ScopeSyntax == "v2" && !sc.v2 {
			return nil, fmt.Errorf("this server understands scopes in %s form only", s.opts.ScopeSyntax)
		}
	}
	return asked, nil
}
