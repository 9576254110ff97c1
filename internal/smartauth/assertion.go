package smartauth

import (
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

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

type assertionHeader struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
	JKU string `json:"jku,omitempty"`
}

type assertionClaims struct {
	Iss string `json:"iss"`
	Sub string `json:"sub"`
	Aud string `json:"aud"`
	Exp int64  `json:"exp"`
	Iat int64  `json:"iat"`
	Jti string `json:"jti"`
}

// sign makes the assertion's compact form with a new jti. nbf is left out: servers without leeway refuse a future one.
func (a assertion) sign(key *Key, alg algorithm) (string, error) {
	jti, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("make a jti: %w", err)
	}
	header, err := json.Marshal(assertionHeader{Alg: alg.name, Kid: a.Kid, Typ: "JWT", JKU: a.JKU})
	if err != nil {
		return "", fmt.Errorf("encode the assertion's header: %w", err)
	}
	claims, err := json.Marshal(assertionClaims{
		Iss: a.ClientID,
		Sub: a.ClientID,
		Aud: a.Audience,
		Exp: a.Now.Add(assertionLife).Unix(),
		Iat: a.Now.Add(-issuedAllowance).Unix(),
		Jti: jti.String(),
	})
	if err != nil {
		return "", fmt.Errorf("encode the assertion's claims: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(claims)
	signature, err := signJWS(key.signer, alg, []byte(signed))
	if err != nil {
		return "", fmt.Errorf("sign with key %q: %w", key.id, err)
	}
	return signed + "." + encode(signature), nil
}

// signJWS signs by RFC 7518 sections 3.3 and 3.4.
func signJWS(signer crypto.Signer, alg algorithm, message []byte) ([]byte, error) {
	hash := alg.hash.New()
	hash.Write(message)
	signature, err := signer.Sign(rand.Reader, hash.Sum(nil), alg.hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", alg.name, err)
	}
	if alg.curve == nil {
		return signature, nil
	}
	return joseSignature(signature, (alg.curve.Params().BitSize+7)/8)
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
