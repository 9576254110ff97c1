package smartauth

import (
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	// assertionLife is how far ahead exp lies: servers accept 300 s at most by their own clock (SMART App Launch 2.2,
	// Client Authentication: Asymmetric), and some cap the access token's life at the assertion's, so it is not short.
	assertionLife = 240 * time.Second
	// issuedAllowance puts iat into the past: some servers leave no leeway for a client whose clock is ahead.
	issuedAllowance = 5 * time.Second
)

// assertion says what a client assertion claims: a JWT that proves to one token endpoint, once, that this client asks
// (SMART App Launch 2.2, Client Authentication: Asymmetric; RFC 7523).
type assertion struct {
	ClientID string
	// Audience is written as a JSON string: servers compare it with their URL, and an array of one is not that string.
	Audience string
	Kid      string
	JKU      string
	// Now is the time by the server's clock.
	Now time.Time
}

// assertionClaims are the claims that servers know, and no others. jwt.RegisteredClaims would write aud as an array.
type assertionClaims struct {
	Issuer   string           `json:"iss"`
	Subject  string           `json:"sub"`
	Audience string           `json:"aud"`
	Expires  *jwt.NumericDate `json:"exp"`
	Issued   *jwt.NumericDate `json:"iat"`
	ID       string           `json:"jti"`
}

// The getters are jwt.Claims.

func (c assertionClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c assertionClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.Issued, nil }
func (assertionClaims) GetNotBefore() (*jwt.NumericDate, error)        { return nil, nil }
func (c assertionClaims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c assertionClaims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c assertionClaims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Audience}, nil
}

// sign makes the assertion's compact form with a new jti. nbf is left out: servers without leeway refuse a future one.
func (a assertion) sign(key *Key, alg algorithm) (string, error) {
	jti, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("make a jti: %w", err)
	}
	token := jwt.NewWithClaims(signerMethod{jwt.GetSigningMethod(alg.name), alg}, assertionClaims{
		Issuer:   a.ClientID,
		Subject:  a.ClientID,
		Audience: a.Audience,
		Expires:  jwt.NewNumericDate(a.Now.Add(assertionLife)),
		Issued:   jwt.NewNumericDate(a.Now.Add(-issuedAllowance)),
		ID:       jti.String(),
	})
	token.Header["kid"] = a.Kid
	if a.JKU != "" {
		token.Header["jku"] = a.JKU
	}
	compact, err := token.SignedString(key.signer)
	if err != nil {
		return "", fmt.Errorf("sign with key %q: %w", key.id, err)
	}
	return compact, nil
}

// signerMethod is a jwt.SigningMethod that signs by any crypto.Signer, also one in a KMS, where the library's own methods
// want the private key itself. It verifies as the library does.
type signerMethod struct {
	jwt.SigningMethod
	algorithm algorithm
}

// Sign signs by RFC 7518 sections 3.3 and 3.4; key is a crypto.Signer.
func (m signerMethod) Sign(message string, key any) ([]byte, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: %w: %T is no crypto.Signer", m.algorithm.name, jwt.ErrInvalidKeyType, key)
	}
	hash := m.algorithm.hash.New()
	_, _ = io.WriteString(hash, message) // a hash takes everything
	signature, err := signer.Sign(rand.Reader, hash.Sum(nil), m.algorithm.hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.algorithm.name, err)
	}
	if m.algorithm.curve == nil {
		return signature, nil
	}
	return joseSignature(signature, (m.algorithm.curve.Params().BitSize+7)/8)
}

// joseSignature turns an ECDSA signature from ASN.1 DER, which crypto.Signer and KMS give, into R and S of size octets each.
func joseSignature(der []byte, size int) ([]byte, error) {
	var parsed struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &parsed)
	if err != nil {
		return nil, fmt.Errorf("parse the ECDSA signature: %w", err)
	}
	if len(rest) > 0 || parsed.R.Sign() <= 0 || parsed.S.Sign() <= 0 ||
		parsed.R.BitLen() > size*8 || parsed.S.BitLen() > size*8 {
		return nil, errors.New("the signer returned an ECDSA signature that does not fit its curve")
	}
	signature := make([]byte, 2*size)
	parsed.R.FillBytes(signature[:size])
	parsed.S.FillBytes(signature[size:])
	return signature, nil
}
