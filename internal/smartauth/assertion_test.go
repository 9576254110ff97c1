package smartauth

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

func decodeAssertion(t *testing.T, compact string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3", len(parts))
	}
	for i, target := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, target); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestJWT1_the_header_holds_alg_kid_and_typ_alone(t *testing.T) {
	t.Parallel()
	key := testKey()
	signed, err := assertion{ClientID: "c", Audience: "a", Kid: "at-this-payer", Now: time.Now()}.sign(key, key.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	header, _ := decodeAssertion(t, signed)
	if len(header) != 3 || header["alg"] != "ES384" || header["kid"] != "at-this-payer" || header["typ"] != "JWT" {
		t.Errorf("header: got %v", header)
	}
}

func TestJWT6_iat_is_sent_and_nbf_is_not(t *testing.T) {
	t.Parallel()
	key, now := testKey(), time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	signed, err := assertion{ClientID: "c", Audience: "a", Kid: "k", Now: now}.sign(key, key.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	_, claims := decodeAssertion(t, signed)
	if claims["iat"] != float64(now.Unix()-5) {
		t.Errorf("iat: got %v", claims["iat"])
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti"} {
		delete(claims, name)
	}
	if len(claims) > 0 {
		t.Errorf("further claims: %v", claims)
	}
}

func TestJWT2_the_client_id_is_issuer_and_subject_unchanged(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	clientID := "https://client.example/a b?" + strings.Repeat("x", 2048)
	a := assertion{ClientID: clientID, Audience: "https://auth.example/Token/?tenant=1&x=<2>", Kid: "at-this-payer", Now: now}
	key := testKey()
	first, err := a.sign(key, key.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	_, claims := decodeAssertion(t, first)
	// JWT-2, JWT-3: unchanged, and aud a string
	if claims["iss"] != clientID || claims["sub"] != clientID || claims["aud"] != a.Audience {
		t.Errorf("claims: got %v", claims)
	}
	// JWT-4
	if claims["exp"] != float64(now.Unix()+240) || claims["iat"] != float64(now.Unix()-5) {
		t.Errorf("exp, iat: got %v, %v", claims["exp"], claims["iat"])
	}
	// JWT-5
	second, err := a.sign(key, key.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	if _, again := decodeAssertion(t, second); again["jti"] == claims["jti"] || len(claims["jti"].(string)) != 36 {
		t.Errorf("jti: got %v and %v, want two UUIDs", claims["jti"], again["jti"])
	}
	// KEY-7
	a.JKU = "https://keys.example/.well-known/jwks.json"
	third, err := a.sign(key, key.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	if header, _ := decodeAssertion(t, third); header["jku"] != a.JKU {
		t.Errorf("jku: got %v", header["jku"])
	}
}

// derSigner is a KMS: it signs in ASN.1, and gives its private half to nobody.
type derSigner struct {
	key       *ecdsa.PrivateKey
	signature []byte // if set, given whatever is to be signed
}

func (s derSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s derSigner) Sign(random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if s.signature != nil {
		return s.signature, nil
	}
	return s.key.Sign(random, digest, options)
}

func TestJWT7_a_key_in_a_KMS_signs_in_JOSE_form(t *testing.T) {
	t.Parallel()
	inner := testKey().Signer().(*ecdsa.PrivateKey)
	key, err := NewKey("kms", "", derSigner{key: inner})
	if err != nil {
		t.Fatal(err)
	}
	compact, err := assertion{ClientID: "c", Audience: "a", Kid: "kms", Now: time.Now()}.sign(key, key.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES384})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Verify(inner.Public()); err != nil {
		t.Errorf("go-jose does not verify the signature: %v", err)
	}
	if _, err := key.MarshalPEM(); err == nil || !strings.Contains(err.Error(), "cannot be exported") {
		t.Errorf("MarshalPEM: got %v, want an error", err)
	}
}

func TestJWT_golang_jwt_reads_and_verifies_every_algorithm(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := GenerateKey(name, "k")
			if err != nil {
				t.Fatal(err)
			}
			compact, err := assertion{ClientID: "c", Audience: "https://auth.example/token", Kid: "k", Now: time.Now()}.
				sign(key, key.algorithm)
			if err != nil {
				t.Fatal(err)
			}
			var claims assertionClaims
			_, err = jwt.ParseWithClaims(compact, &claims, func(*jwt.Token) (any, error) { return key.Public(), nil },
				jwt.WithValidMethods([]string{name}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
				jwt.WithIssuer("c"), jwt.WithSubject("c"), jwt.WithAudience("https://auth.example/token"))
			if err != nil {
				t.Errorf("golang-jwt refuses the assertion: %v", err)
			}
		})
	}
}

func TestJWT_signing_demands_a_signer(t *testing.T) {
	t.Parallel()
	method := signerMethod{jwt.SigningMethodES384, testKey().algorithm}
	if _, err := method.Sign("text", []byte("secret")); !errors.Is(err, jwt.ErrInvalidKeyType) {
		t.Errorf("got %v, want %v", err, jwt.ErrInvalidKeyType)
	}
}

func TestJWT7_R_and_S_have_fixed_length(t *testing.T) {
	t.Parallel()
	der := func(r, s *big.Int) []byte {
		data, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	signature, err := joseSignature(der(big.NewInt(1), big.NewInt(0x0203)), 48)
	if err != nil {
		t.Fatal(err)
	}
	if len(signature) != 96 || signature[47] != 1 || signature[94] != 2 || signature[95] != 3 || signature[0] != 0 {
		t.Errorf("got %x, want two numbers of 48 octets, padded to the left", signature)
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 48*8)
	for name, bad := range map[string][]byte{
		"too large":  der(huge, big.NewInt(1)),
		"zero":       der(big.NewInt(0), big.NewInt(1)),
		"negative":   der(big.NewInt(-1), big.NewInt(1)),
		"more after": append(der(big.NewInt(1), big.NewInt(1)), 0),
		"not DER":    []byte("signature"),
		"empty":      {},
	} {
		if _, err := joseSignature(bad, 48); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
