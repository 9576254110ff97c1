package payersim

import (
	"crypto/sha256"
	"net/http"
	"regexp"
	"time"
)

// token is an issued access token. Only its hash is kept.
type token struct {
	client  string
	grants  grants
	expires time.Time
	uses    int
}

// issue makes an access token.
func (s *Server) issue(clientID string, granted grants) string {
	text := secret()
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, t := range s.tokens {
		if now.After(t.expires) {
			delete(s.tokens, key)
		}
	}
	s.tokens[sha256.Sum256([]byte(text))] = &token{client: clientID, grants: granted, expires: now.Add(s.opts.TokenLifetime)}
	return text
}

// RevokeTokens makes every token issued so far invalid.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// bearer is the header as the strictest servers match it: a capital B and one space (USE-1).
var bearer = regexp.MustCompile(`^Bearer (\S+)$`)

// authorize finds the token of a request. Without a valid one it answers 401 and returns false. RFC 6750, section 3.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) (token, bool) {
	no := refusal{
		status: http.StatusUnauthorized, code: "login", text: "an access token is needed", challenge: `Bearer realm="payersim"`,
	}
	headers := r.Header["Authorization"]
	switch {
	case r.URL.Query().Has("access_token"):
		no.text = "an access token does not belong into a URL"
	case len(headers) == 0:
	case len(headers) > 1 || !bearer.MatchString(headers[0]):
		no.text = `the Authorization header must be "Bearer", one space and the token`
	default:
		t, ok := s.use(bearer.FindStringSubmatch(headers[0])[1])
		if ok {
			return t, true
		}
		no.text = "the access token is unknown, expired or revoked"
		no.challenge += `, error="invalid_token"`
	}
	s.count.unauthorized.Add(1)
	if status := s.plan().Token.RefusedStatus; status != 0 {
		w.WriteHeader(status)
		return token{}, false
	}
	s.refuse(w, r, no)
	return token{}, false
}

// use counts a use of a token and tells whether it is still valid.
func (s *Server) use(text string) (token, bool) {
	key := sha256.Sum256([]byte(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[key]
	if t == nil || !s.now().Before(t.expires) {
		return token{}, false
	}
	if s.plan().Token.RefuseAll {
		s.count.faults.Add(1)
		return token{}, false
	}
	if limit := s.plan().RevokeTokensAfter; limit > 0 && t.uses >= limit {
		delete(s.tokens, key)
		s.count.faults.Add(1)
		return token{}, false
	}
	t.uses++
	return *t, true
}

// insufficientScope answers a valid token that does not cover what it is used for. RFC 6750, section 3.1.
func (s *Server) insufficientScope(w http.ResponseWriter, r *http.Request, resourceType string) {
	s.refuse(w, r, refusal{
		status: http.StatusForbidden, code: "forbidden", text: "the token's scopes do not cover " + resourceType,
		challenge: `Bearer realm="payersim", error="insufficient_scope"`,
	})
}
