package payersim

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// client is a registered client.
type client struct {
	id         string
	url        string // of its key set, where it is registered by URL
	audience   string // of its assertions; empty: the token URL
	exactScope string
	secret     *clientSecret // instead of keys
	grants     grants
	load       func(ctx context.Context, kid string) ([]byte, error)
}

// newClient checks a registration. keepsJWKS tells whether a key set from a URL is believed although it lacks a kid.
func newClient(c Client, httpClient *http.Client, keepsJWKS func() bool) (*client, error) {
	if c.ID == "" {
		return nil, errors.New("payersim: a client needs an id")
	}
	sources := 0
	added := &client{id: c.ID, url: c.JWKSURL, audience: c.Audience, exactScope: c.ExactScope}
	if c.Secret != "" {
		sources++
		added.secret = &clientSecret{text: c.Secret, inForm: c.SecretInForm, raw: c.RawSecret}
		added.load = func(context.Context, string) ([]byte, error) {
			return nil, errors.New("this client is registered with a secret, not with keys")
		}
	}
	if c.JWKSFile != "" {
		sources++
		added.load = func(context.Context, string) ([]byte, error) {
			set, err := os.ReadFile(c.JWKSFile)
			if err != nil {
				return nil, fmt.Errorf("read the registered key set: %w", err)
			}
			return set, nil
		}
	}
	if c.JWKSURL != "" {
		sources++
		if err := checkJWKSURL(c.JWKSURL); err != nil {
			return nil, fmt.Errorf("payersim: client %q: %w", c.ID, err)
		}
		added.load = (&remoteKeys{url: c.JWKSURL, http: httpClient, stubborn: keepsJWKS}).load
	}
	if c.JWKS != nil {
		sources++
		added.load = func(context.Context, string) ([]byte, error) { return c.JWKS, nil }
	}
	if c.JWKSFunc != nil {
		sources++
		added.load = func(ctx context.Context, _ string) ([]byte, error) { return c.JWKSFunc(ctx) }
	}
	if sources != 1 {
		return nil, fmt.Errorf("payersim: client %q needs exactly one key set or a secret, not %d", c.ID, sources)
	}
	scopes := c.Scopes
	if scopes == "" {
		scopes = defaultScopes
	}
	var err error
	if added.grants, err = parseGrants(scopes); err != nil {
		return nil, fmt.Errorf("payersim: client %q: %w", c.ID, err)
	}
	return added, nil
}

// checkJWKSURL demands https, but for a key set on this machine. SMART App Launch 2.2, Registering a client.
func checkJWKSURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("the JWKS URL cannot be read")
	}
	host := u.Hostname()
	local := host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return errors.New("a JWKS URL must be https, or http on loopback")
	}
	return nil
}

// remoteKeys is a key set at a URL, kept for the max-age that its server names; a kid that it lacks makes it fetch
// again.
type remoteKeys struct {
	url      string
	http     *http.Client
	stubborn func() bool // a set is believed for its whole max-age

	mu    sync.Mutex
	set   []byte
	until time.Time
}

const maxJWKSBytes = 1 << 20

func (k *remoteKeys) load(ctx context.Context, kid string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set != nil && time.Now().Before(k.until) && (hasKey(k.set, kid) || k.stubborn()) {
		return k.set, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch the registered JWKS URL: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch the registered JWKS URL: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the registered JWKS URL answers %d, not 200", resp.StatusCode)
	}
	set, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKSBytes))
	if err != nil {
		return nil, fmt.Errorf("read the registered JWKS URL: %w", err)
	}
	k.set, k.until = set, time.Now().Add(maxAge(resp.Header.Get("Cache-Control")))
	return set, nil
}

// maxAge is the max-age of a Cache-Control header, 0 without one.
func maxAge(header string) time.Duration {
	for directive := range strings.SplitSeq(header, ",") {
		value, ok := strings.CutPrefix(strings.TrimSpace(directive), "max-age=")
		if seconds, err := strconv.Atoi(value); ok && err == nil && seconds > 0 {
			return time.Duration(seconds) * time.Second
		}
	}
	return 0
}

// jwk is a JSON Web Key as far as signatures need it. RFC 7517, RFC 7518 section 6.
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Alg    string   `json:"alg"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"`
	E      string   `json:"e"`
}

func parseKeySet(set []byte) ([]jwk, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &doc); err != nil || doc.Keys == nil {
		return nil, errors.New("the registered key set is not a JWK Set")
	}
	keys := make([]jwk, len(doc.Keys))
	for i, raw := range doc.Keys {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, fmt.Errorf("key %d of the registered key set is not an object", i)
		}
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if _, ok := members[private]; ok {
				return nil, fmt.Errorf("key %d of the registered key set shows the private member %q", i, private)
			}
		}
		if err := json.Unmarshal(raw, &keys[i]); err != nil {
			return nil, fmt.Errorf("key %d of the registered key set is not a JWK", i)
		}
	}
	return keys, nil
}

func hasKey(set []byte, kid string) bool {
	keys, err := parseKeySet(set)
	return err == nil && slices.ContainsFunc(keys, func(k jwk) bool { return k.Kid == kid })
}

// key finds the one key that may verify a signature of the algorithm. SMART App Launch 2.2, Signature Verification: the
// kid must match exactly one key.
func (c *client) key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	set, err := c.load(ctx, kid)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeySet(set)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k jwk) bool { return k.Kid != kid })
	if len(keys) != 1 {
		return nil, fmt.Errorf("kid %q matches %d keys of the registered key set, not one", kid, len(keys))
	}
	k := keys[0]
	switch {
	case k.Alg != "" && k.Alg != alg:
		return nil, fmt.Errorf("key %q is for %s, not %s", kid, k.Alg, alg)
	case k.Use != "" && k.Use != "sig":
		return nil, fmt.Errorf("key %q is not for signatures", kid)
	case k.KeyOps != nil && !slices.Contains(k.KeyOps, "verify"):
		return nil, fmt.Errorf("key %q may not verify", kid)
	}
	public, err := k.public(alg)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", kid, err)
	}
	return public, nil
}

// curves are the one curve that each ES algorithm goes with. RFC 7518, 3.4.
var curves = map[string]struct {
	name  string
	curve elliptic.Curve
}{
	"ES256": {"P-256", elliptic.P256()},
	"ES384": {"P-384", elliptic.P384()},
	"ES512": {"P-521", elliptic.P521()},
}

func (k jwk) public(alg string) (crypto.PublicKey, error) {
	if strings.HasPrefix(alg, "RS") {
		return k.rsa()
	}
	fit := curves[alg]
	if k.Kty != "EC" || k.Crv != fit.name {
		return nil, fmt.Errorf("%s needs an EC key on %s, this is %s %s", alg, fit.name, k.Kty, k.Crv)
	}
	x, errX := base64.RawURLEncoding.Strict().DecodeString(k.X)
	y, errY := base64.RawURLEncoding.Strict().DecodeString(k.Y)
	size := (fit.curve.Params().BitSize + 7) / 8
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return nil, fmt.Errorf("x and y must be %d octets each, in base64url", size)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(fit.curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, fmt.Errorf("x and y are no point on %s", fit.name)
	}
	return public, nil
}

func (k jwk) rsa() (crypto.PublicKey, error) {
	if k.Kty != "RSA" {
		return nil, fmt.Errorf("an RS algorithm needs an RSA key, this is %s", k.Kty)
	}
	n, errN := base64.RawURLEncoding.Strict().DecodeString(k.N)
	e, errE := base64.RawURLEncoding.Strict().DecodeString(k.E)
	if errN != nil || errE != nil || len(n) == 0 || len(e) == 0 || len(e) > 4 || n[0] == 0 || e[0] == 0 {
		return nil, errors.New("n and e must be base64url of the fewest octets")
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if public.N.BitLen() < 2048 {
		return nil, fmt.Errorf("an RSA key needs 2048 bits, this has %d", public.N.BitLen())
	}
	return public, nil
}
