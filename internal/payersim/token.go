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
		writeJSON(w, no.status, "application/json", map[string]string{"error": no.code, "error_description": no.text})
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.count.tokens.Add(1)
	writeJSON(w, http.StatusOK, "application/json", map[string]any{
		"access_token": s.issue(who.id, granted),
		"token_type":   "bearer",
		"expires_in":   int64(s.opts.TokenLifetime / time.Second),
		"scope":        granted.String(),
	})
}

// tokenRequest checks a token request and returns the client and what it is granted.
func (s *Server) tokenRequest(w http.ResponseWriter, r *http.Request) (*client, grants, error) {
	form, err := tokenForm(w, r)
	if err != nil {
		return nil, nil, err
	}
	asked, err := s.askedScopes(form.Get("scope"))
	if err != nil {
		return nil, nil, &oauthError{http.StatusBadRequest, "invalid_scope", err.Error()}
	}
	who, err := s.authenticate(r.Context(), form.Get("client_assertion"), s.origin(r)+tokenPath)
	if err != nil {
		return nil, nil, &oauthError{http.StatusBadRequest, "invalid_client", err.Error()}
	}
	if id := form.Get("client_id"); form.Has("client_id") && id != who.id {
		return nil, nil, &oauthError{http.StatusBadRequest, "invalid_client", "client_id is not the assertion's issuer"}
	}
	if s.strike("token_endpoint_fail_first", s.plan().TokenEndpointFailFirst) {
		return nil, nil, &oauthError{http.StatusServiceUnavailable, "temporarily_unavailable", "try again with a new assertion"}
	}
	granted := who.grants.cut(asked)
	if len(granted) == 0 {
		return nil, nil, &oauthError{http.StatusBadRequest, "invalid_scope", "none of these scopes is open to this client"}
	}
	return who, granted, nil
}

// tokenForm reads the request's form and refuses whatever a token request does not consist of (TOK-1).
func tokenForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		return nil, &oauthError{http.StatusMethodNotAllowed, "invalid_request", "the token endpoint accepts POST only"}
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("the token endpoint takes nothing from the query")
	}
	if _, ok := r.Header["Authorization"]; ok {
		return nil, invalidRequest("a request with client_assertion must not carry an Authorization header")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil ||
		media != "application/x-www-form-urlencoded" || len(r.Header["Content-Type"]) != 1 {
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
	required := []string{"grant_type", "scope", "client_assertion_type", "client_assertion"}
	for name, values := range form {
		if name != "client_id" && !slices.Contains(required, name) {
			return nil, invalidRequest("parameter %q is not known", name)
		}
		if len(values) != 1 {
			return nil, invalidRequest("parameter %q appears %d times", name, len(values))
		}
	}
	for _, name := range required {
		if form.Get(name) == "" {
			return nil, invalidRequest("parameter %q is missing", name)
		}
	}
	if form.Get("grant_type") != "client_credentials" {
		return nil, &oauthError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials"}
	}
	if form.Get("client_assertion_type") != assertionType {
		return nil, invalidRequest("client_assertion_type must be %s", assertionType)
	}
	return form, nil
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
