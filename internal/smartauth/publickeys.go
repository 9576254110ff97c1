package smartauth

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxSetKeys bounds the keys that are read of a JWK Set.
const maxSetKeys = 1000

// PublicKey is a key of a JWK Set as a payer sees it.
type PublicKey struct {
	ID        string
	Algorithm string
	Use       string
	// Thumbprint is the RFC 7638 thumbprint; empty where the key is of a kind that signs no assertions, or is malformed.
	Thumbprint string
	// Private: the set gives the private half away.
	Private bool
	// Problem says what is wrong with the key; empty if nothing.
	Problem string
}

// ParseJWKS reads a JWK Set. A key that cannot be used is returned with its problem; only a document that is no set is an
// error.
func ParseJWKS(data []byte) ([]PublicKey, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("the document is not a JSON object")
	}
	if set.Keys == nil {
		return nil, errors.New("the document has no keys: it is no JWK Set")
	}
	if len(*set.Keys) > maxSetKeys {
		return nil, fmt.Errorf("the set has %d keys: at most %d are read", len(*set.Keys), maxSetKeys)
	}
	keys := make([]PublicKey, 0, len(*set.Keys))
	for _, raw := range *set.Keys {
		var jwk anyJWK
		if json.Unmarshal(raw, &jwk) != nil {
			keys = append(keys, PublicKey{Problem: "it is no JWK"})
			continue
		}
		keys = append(keys, jwk.public())
	}
	return keys, nil
}

func (j anyJWK) public() PublicKey {
	key := PublicKey{
		ID: clean(j.Kid, maxKidBytes), Algorithm: clean(j.Alg, 20), Use: clean(j.Use, 20),
		Private: j.D != "" || j.P != "" || j.Q != "" || j.K != "" || j.Oth != nil,
	}
	digest, err := j.digest()
	if err != nil {
		key.Problem = err.Error()
	}
	key.Thumbprint = digest
	return key
}

func (j anyJWK) digest() (string, error) {
	switch j.Kty {
	case "RSA":
		public, err := j.publicRSA()
		if err != nil {
			return "", err
		}
		if err := checkPublic(public); err != nil {
			return "", err
		}
		return thumbprint(public)
	case "EC":
		curve, err := curveByName(j.Crv)
		if err != nil {
			return "", err
		}
		public, err := j.publicEC(curve)
		if err != nil {
			return "", err
		}
		return thumbprint(public)
	default:
		return "", fmt.Errorf("the kty %q signs no client assertions", clean(j.Kty, 20))
	}
}
