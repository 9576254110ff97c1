package payersim

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// clientSecret is what a client proves itself by that has no keys. RFC 6749, 2.3.1.
type clientSecret struct {
	text        string
	inForm, raw bool
}

// knowsSecret authenticates a client by its secret. With HTTP Basic the body may be empty, as BCDA's clients send it.
func (s *Server) knowsSecret(r *http.Request, form url.Values) (*client, error) {
	if form.Has("client_assertion_type") {
		return nil, invalidRequest("client_assertion_type without client_assertion")
	}
	if grant := form.Get("grant_type"); grant != "client_credentials" && (grant != "" || form.Has("client_secret")) {
		return nil, &oauthError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials"}
	}
	refused := &oauthError{http.StatusUnauthorized, "invalid_client", "the client is not registered with this secret in this form"}
	inForm := form.Has("client_secret")
	if headers := r.Header["Authorization"]; len(headers) > 0 {
		if inForm || form.Has("client_id") || len(headers) > 1 {
			return nil, invalidRequest("the client authenticates in more than one way")
		}
		encoded, ok := strings.CutPrefix(headers[0], "Basic ")
		pair, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil {
			return nil, invalidRequest("the Authorization header is not Basic")
		}
		id, text, _ := strings.Cut(string(pair), ":")
		return s.match(id, text, false, refused)
	}
	return s.match(form.Get("client_id"), form.Get("client_secret"), true, refused)
}

// match finds the client whose secret it is.
func (s *Server) match(id, text string, inForm bool, refused error) (*client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		if c.secret == nil || c.secret.inForm != inForm {
			continue
		}
		gotID, gotText := id, text
		if !inForm && !c.secret.raw {
			var errs []error
			for _, part := range []*string{&gotID, &gotText} {
				decoded, err := url.QueryUnescape(*part)
				*part, errs = decoded, append(errs, err)
			}
			if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
				continue
			}
		}
		if c.id == gotID && subtle.ConstantTimeCompare([]byte(c.secret.text), []byte(gotText)) == 1 {
			return c, nil
		}
	}
	return nil, refused
}

// authMethods are the ways to authenticate that the registered clients use.
func (s *Server) authMethods() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	methods := []string{"private_key_jwt"}
	for _, c := range s.clients {
		if c.secret == nil {
			continue
		}
		method := "client_secret_basic"
		if c.secret.inForm {
			method = "client_secret_post"
		}
		if !slices.Contains(methods, method) {
			methods = append(methods, method)
		}
	}
	slices.Sort(methods[1:])
	return methods
}
