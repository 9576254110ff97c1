package smartauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The methods of client authentication that payers ask for.
const (
	MethodPrivateKeyJWT     = "private_key_jwt"
	MethodClientSecretBasic = "client_secret_basic"
	MethodClientSecretPost  = "client_secret_post"
	MethodNone              = "none"
)

// Registration is one client at one authorization server: what was agreed with a payer.
type Registration struct { //nolint:recvcheck // values are redacted too; normalize fills in
	// Payer names it in logs, metrics and errors.
	Payer string
	// FHIRURL is the base of the FHIR server, where discovery starts and where tokens go.
	FHIRURL string
	// Method is one of the Method constants; empty is private_key_jwt.
	Method string
	// ClientID is sent unchanged: some payers issue URLs or tokens of kilobytes.
	ClientID string
	// Keys are those that sign, the active one first. The others are tried once where the server refuses the first,
	// which is what a rotation that one side has not seen yet looks like.
	Keys []*Key
	// CurrentKeys, if set, takes the place of Keys: it is asked for every token, so that keys can be exchanged while the
	// process runs. KeyRing.Signing gives such a function.
	CurrentKeys func() []*Key
	// Kid overrides the id of the first key at this payer.
	Kid string
	// JKU is the registered JWKS URL, sent in the assertion's header if set. It must equal the registered one exactly.
	JKU string
	// TokenURL overrides discovery; Audience overrides the assertion's aud, which is the token URL.
	TokenURL, Audience string
	// Scopes are sent verbatim; without them they follow from Types.
	Scopes []string
	// Types are the resource types that will be read.
	Types []string
	// ClientSecret returns the secret of the client_secret methods. It is asked for every request, so that a rotated
	// secret is taken without a restart.
	ClientSecret func(context.Context) (string, error)
	// RawBasic sends id and secret of client_secret_basic unencoded, for servers that do not decode them.
	RawBasic bool
	// SendClientID adds client_id to the form of private_key_jwt, for servers that want it there.
	SendClientID bool
	// Transport carries discovery and token requests; nil is a transport of the standard library's defaults with TLS 1.2.
	Transport http.RoundTripper
	// Headers are sent to the FHIR server's own origin on every request, and to no other.
	Headers map[string]string
}

// String names the registration without its credentials.
func (r Registration) String() string {
	return fmt.Sprintf("smartauth.Registration(%s, %s)", r.Payer, r.Method)
}

// Format redacts the registration under every verb: client ids are credentials at some payers, and headers are.
func (r Registration) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, r.String()) }

// LogValue redacts the registration.
func (r Registration) LogValue() slog.Value { return slog.StringValue(r.String()) }

// normalize fills what follows from the rest and refuses what cannot work. It returns the base URL without trailing slash.
func (r *Registration) normalize() (*url.URL, error) {
	r.Keys, r.Scopes, r.Types = slices.Clone(r.Keys), slices.Clone(r.Scopes), slices.Clone(r.Types)
	if r.Payer == "" {
		return nil, errors.New("a registration needs the payer's name")
	}
	base, err := parseEndpoint(r.FHIRURL)
	if err != nil {
		return nil, configError(r.Payer, "fhir_url cannot be used: %w", err)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = strings.TrimRight(base.RawPath, "/")
	base.RawQuery = ""
	if r.Method == "" {
		r.Method = MethodPrivateKeyJWT
	}
	switch r.Method {
	case MethodNone:
		return base, nil
	case MethodPrivateKeyJWT:
		err = r.checkKeys()
	case MethodClientSecretBasic, MethodClientSecretPost:
		if r.ClientSecret == nil {
			err = fmt.Errorf("method %s needs client_secret", r.Method)
		}
	default:
		err = fmt.Errorf("unknown method %q: expected private_key_jwt, client_secret_basic, client_secret_post or none", r.Method)
	}
	if err == nil && r.ClientID == "" {
		err = fmt.Errorf("method %s needs client_id", r.Method)
	}
	if err == nil && r.TokenURL != "" {
		if _, urlErr := parseEndpoint(r.TokenURL); urlErr != nil {
			err = fmt.Errorf("token_url cannot be used: %w", urlErr)
		}
	}
	if err == nil {
		err = checkScopes(r.Scopes)
	}
	if err != nil {
		return nil, configError(r.Payer, "%w", err)
	}
	return base, nil
}

// signing returns the keys of the moment, the active one first.
func (r *Registration) signing() []*Key {
	if r.CurrentKeys != nil {
		return r.CurrentKeys()
	}
	return r.Keys
}

func (r *Registration) checkKeys() error {
	keys := r.signing()
	if len(keys) == 0 {
		return errors.New("method private_key_jwt needs a key")
	}
	seen := make(map[string]bool, len(keys))
	for i, key := range keys {
		if key == nil {
			return errors.New("a key is nil")
		}
		kid := r.kidOf(keys, i)
		if seen[kid] {
			return fmt.Errorf("two keys have the kid %q", kid)
		}
		seen[kid] = true
	}
	return nil
}

// kidOf is the kid that the i-th key is known by at this payer.
func (r *Registration) kidOf(keys []*Key, i int) string {
	if i == 0 && r.Kid != "" {
		return r.Kid
	}
	return keys[i].id
}

// scopesFor are the scopes to ask for.
func (r *Registration) scopesFor(syntax scopeSyntax) []string {
	if len(r.Scopes) > 0 {
		return r.Scopes
	}
	return deriveScopes(r.Types, syntax)
}

// scopesIdentity names the set of scopes whatever their order and syntax.
func (r *Registration) scopesIdentity() string {
	set := slices.Clone(r.scopesFor(scopesV1))
	slices.Sort(set)
	return strings.Join(slices.Compact(set), " ")
}

// newDefaultTransport carries token requests where a registration names no transport.
func newDefaultTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          20,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}
}
