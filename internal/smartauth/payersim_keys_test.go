package smartauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/youmark/pkcs8"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

func pemBlock(kind string, der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestKEY1_a_key_in_every_form_gets_a_token_at_a_strict_server(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8RSA, err1 := x509.MarshalPKCS8PrivateKey(rsaKey)
	sec1, err2 := x509.MarshalECPrivateKey(ecKey)
	encrypted, err3 := pkcs8.MarshalPrivateKey(ecKey, []byte("open sesame"), nil)
	jwk, err := json.Marshal(jose.JSONWebKey{Key: rsaKey, KeyID: "from-another-library", Algorithm: "RS256"})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"PKCS#1":           pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil),
		"PKCS#8":           pemBlock("PRIVATE KEY", pkcs8RSA, err1),
		"SEC1":             pemBlock("EC PRIVATE KEY", sec1, err2),
		"encrypted PKCS#8": pemBlock("ENCRYPTED PRIVATE KEY", encrypted, err3),
		"JWK":              jwk,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := smartauth.ParseEncryptedKey("", "", data, []byte("open sesame"))
			if err != nil {
				t.Fatal(err)
			}
			p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, key)
			p.mustBeAccepted(p.source(nil, key))
		})
	}
}

// kmsSigner signs as a KMS does: it shows the public key only, and its ECDSA signatures are DER.
type kmsSigner struct{ key crypto.Signer }

func (s kmsSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s kmsSigner) Sign(random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(random, digest, options)
}

func TestJWT7_a_signer_that_keeps_its_key_gets_a_token_at_a_strict_server(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"ES384", "RS384"} {
		inner := mustGenerate(algorithm)
		key, err := smartauth.NewKey("in-a-kms", algorithm, kmsSigner{inner.Signer()})
		if err != nil {
			t.Fatal(err)
		}
		p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, key)
		for range 30 { // one in 128 signatures has a number with a leading zero
			p.mustBeAccepted(p.source(nil, key))
			p.restart()
		}
	}
}

func TestKEY5_a_rotation_under_load_has_no_refused_request(t *testing.T) {
	t.Parallel()
	first, second := simKey(), newKey()
	var published atomic.Pointer[[]*smartauth.Key]
	published.Store(&[]*smartauth.Key{first})
	hosting := httptest.NewServer(smartauth.NewJWKSHandler(func() []*smartauth.Key { return *published.Load() }, time.Second))
	t.Cleanup(hosting.Close)
	// The payer fetches our own listener's set, and believes it for its whole max-age.
	p := simulate(t, payersim.TokenFaults{KeepsJWKS: true}, payersim.Options{Clients: []payersim.Client{{
		ID: clientID, JWKSURL: hosting.URL + smartauth.JWKSPath,
	}}})
	var signing atomic.Pointer[[]*smartauth.Key]
	signing.Store(&[]*smartauth.Key{first})
	work := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			p.mustBeAccepted(p.source(func(r *smartauth.Registration) {
				r.CurrentKeys = func() []*smartauth.Key { return *signing.Load() }
				r.JKU = hosting.URL + smartauth.JWKSPath
			}))
			p.restart()
		}
	}
	work(200 * time.Millisecond)
	published.Store(&[]*smartauth.Key{first, second}) // publish
	work(1200 * time.Millisecond)                     // wait for the max-age
	signing.Store(&[]*smartauth.Key{second})          // sign
	work(200 * time.Millisecond)
	published.Store(&[]*smartauth.Key{second}) // withdraw
	work(1200 * time.Millisecond)
	if stats := p.Stats(); stats.TokensRefused != 0 || stats.TokensIssued < 10 {
		t.Errorf("got %d tokens and %d refused requests, want many and none", stats.TokensIssued, stats.TokensRefused)
	}
}

func TestKEY5_a_payer_that_does_not_know_the_new_key_yet_is_asked_with_the_other(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey())
	source := p.source(nil, newKey(), simKey())
	source.Invalidate(p.mustBeAccepted(source))
	p.mustBeAccepted(source)
	stats := p.Stats()
	if stats.TokensIssued != 2 || stats.TokensRefused < 1 || stats.TokensRefused > 2 {
		t.Errorf("got %d tokens and %d refusals; want 2 tokens, and the new key refused once", stats.TokensIssued, stats.TokensRefused)
	}
	p.manager.Close()
	if log := p.log.String(); !strings.Contains(log, "rotation") || !strings.Contains(log, simKey().ID()) {
		t.Errorf("the fallback is not reported with the accepted kid: %s", log)
	}
}

func TestKEY5_a_payer_that_caches_the_old_set_is_asked_with_the_old_key(t *testing.T) {
	t.Parallel()
	published := []*smartauth.Key{simKey()}
	hosting := httptest.NewServer(smartauth.NewJWKSHandler(func() []*smartauth.Key { return published }, time.Hour))
	t.Cleanup(hosting.Close)
	p := simulate(t, payersim.TokenFaults{KeepsJWKS: true}, payersim.Options{Clients: []payersim.Client{{
		ID: clientID, JWKSURL: hosting.URL + smartauth.JWKSPath,
	}}})
	p.mustBeAccepted(p.source(nil, simKey()))
	published = []*smartauth.Key{newKey(), simKey()}
	source := p.source(nil, newKey(), simKey())
	p.RevokeTokens()
	p.mustBeAccepted(source)
}

func TestKEY6_a_key_set_by_value_serves_the_key_and_its_successor(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey(), newKey())
	for _, key := range []*smartauth.Key{simKey(), newKey()} {
		p.RevokeTokens()
		p.mustBeAccepted(p.source(nil, key))
	}
	if got := p.Stats().TokensRefused; got != 0 {
		t.Errorf("%d requests were refused", got)
	}
}

func TestKEY7_a_jku_must_be_the_registered_URL_byte_for_byte(t *testing.T) {
	t.Parallel()
	hosting := httptest.NewServer(smartauth.NewJWKSHandler(func() []*smartauth.Key { return []*smartauth.Key{simKey()} }, time.Hour))
	t.Cleanup(hosting.Close)
	registered := hosting.URL + smartauth.JWKSPath
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{Clients: []payersim.Client{{ID: clientID, JWKSURL: registered}}})
	with := func(jku string) *smartauth.Source {
		return p.source(func(r *smartauth.Registration) { r.JKU = jku }, simKey())
	}
	p.mustBeAccepted(with(registered))
	p.RevokeTokens()
	source := with(registered + "/")
	source.Invalidate(p.tokenOf(source))
	if failure := p.refusal(source); failure.Code != "invalid_client" || !strings.Contains(failure.Description, "jku") {
		t.Errorf("got %v, want invalid_client that names jku", failure)
	}
}

// tokenOf is the live token of a source.
func (p *simPayer) tokenOf(source *smartauth.Source) smartauth.Token {
	p.t.Helper()
	token, err := source.Token(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

func TestKEY1_a_server_with_one_algorithm_gets_that_one(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			family := algorithm
			if strings.HasPrefix(algorithm, "RS") {
				family = "RS384" // one RSA key signs with all three: the server's list decides
			}
			key := mustGenerate(family)
			if family != algorithm { // the label of a generated key is a choice; a key without one follows the server
				var err error
				if key, err = smartauth.NewKey("plain", "", key.Signer()); err != nil {
					t.Fatal(err)
				}
			}
			p := simulate(t, payersim.TokenFaults{}, payersim.Options{
				Algorithms: []string{algorithm},
				Clients: []payersim.Client{{ID: clientID, JWKSFunc: func(context.Context) ([]byte, error) {
					set, err := smartauth.NewJWKS(key)
					if err != nil {
						return nil, err
					}
					// Registered without alg, as portals store a bare public key.
					return regexp.MustCompile(`"alg":\s*"\w+",`).ReplaceAll(set, nil), nil
				}}},
			})
			p.mustBeAccepted(p.source(nil, key))
		})
	}
}
