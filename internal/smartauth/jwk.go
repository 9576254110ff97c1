package smartauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// publicJWK is a JSON Web Key (RFC 7517 section 4) with public members only: a private member has no field to be in.
type publicJWK struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Use    string   `json:"use"`
	Alg    string   `json:"alg"`
	KeyOps []string `json:"key_ops"`
	N      string   `json:"n,omitempty"`
	E      string   `json:"e,omitempty"`
	Crv    string   `json:"crv,omitempty"`
	X      string   `json:"x,omitempty"`
	Y      string   `json:"y,omitempty"`
}

// NewJWKS prints the JWK Set of the keys' public halves, ready to be uploaded or served: kid, use, alg and key_ops of each, and
// no private member. Two keys with one kid are an error: servers must refuse them (SMART App Launch 2.2, Client
// Authentication: Asymmetric, Signature Verification).
func NewJWKS(keys ...*Key) ([]byte, error) {
	set := struct {
		Keys []publicJWK `json:"keys"`
	}{Keys: make([]publicJWK, 0, len(keys))}
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if seen[key.id] {
			return nil, fmt.Errorf("two keys have the kid %q: a kid must name one key", key.id)
		}
		seen[key.id] = true
		jwk, err := encodePublic(key.signer.Public())
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key.id, err)
		}
		jwk.Kid, jwk.Use, jwk.Alg, jwk.KeyOps = key.id, "sig", key.algorithm.name, []string{"verify"}
		set.Keys = append(set.Keys, jwk)
	}
	data, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the JWK Set: %w", err)
	}
	return append(data, '\n'), nil
}

// encodePublic fills the members that say which key it is (RFC 7518 section 6): RSA values in as few octets as they need, EC
// coordinates in as many as the curve has.
func encodePublic(public crypto.PublicKey) (publicJWK, error) {
	encode := base64.RawURLEncoding.EncodeToString
	switch key := public.(type) {
	case *rsa.PublicKey:
		return publicJWK{Kty: "RSA", N: encode(key.N.Bytes()), E: encode(big.NewInt(int64(key.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, X, Y
		if err != nil {
			return publicJWK{}, fmt.Errorf("encode the EC point: %w", err)
		}
		size := (len(point) - 1) / 2
		return publicJWK{Kty: "EC", Crv: key.Curve.Params().Name, X: encode(point[1 : 1+size]), Y: encode(point[1+size:])}, nil
	default:
		return publicJWK{}, fmt.Errorf("%s has no JWK form here", describePublic(public))
	}
}

// thumbprint is RFC 7638: SHA-256 over the required members in the order of their names, without white space.
func thumbprint(public crypto.PublicKey) (string, error) {
	jwk, err := encodePublic(public)
	if err != nil {
		return "", err
	}
	var members any
	if jwk.Kty == "RSA" {
		members = struct {
			E   string `json:"e"`
			Kty string `json:"kty"`
			N   string `json:"n"`
		}{jwk.E, jwk.Kty, jwk.N}
	} else {
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{jwk.Crv, jwk.Kty, jwk.X, jwk.Y}
	}
	data, err := json.Marshal(members)
	if err != nil {
		return "", fmt.Errorf("encode the thumbprint's members: %w", err)
	}
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// anyJWK is what is read of a JWK, private or public.
type anyJWK struct {
	Kty string          `json:"kty"`
	Kid string          `json:"kid"`
	Alg string          `json:"alg"`
	Use string          `json:"use"`
	Crv string          `json:"crv"`
	N   string          `json:"n"`
	E   string          `json:"e"`
	X   string          `json:"x"`
	Y   string          `json:"y"`
	D   string          `json:"d"`
	P   string          `json:"p"`
	Q   string          `json:"q"`
	Oth json.RawMessage `json:"oth"`
	K   string          `json:"k"`
	// Keys is there to tell that somebody gave a set in place of a key.
	Keys json.RawMessage `json:"keys"`
}

func parseJWK(id, algorithmName string, data []byte) (*Key, error) {
	var jwk anyJWK
	if err := json.Unmarshal(data, &jwk); err != nil {
		// The decoder's message may quote what stands there, and a private key stands there.
		return nil, errors.New("the private key looks like a JWK but is not valid JSON of one")
	}
	if jwk.Keys != nil && jwk.Kty == "" {
		return nil, errors.New("a JWK Set in place of a private key: give one JWK with its private members")
	}
	if jwk.D == "" {
		return nil, errors.New("the JWK has no private member (d): it is a public key")
	}
	signer, err := jwk.private()
	if err != nil {
		return nil, err
	}
	if id == "" {
		id = jwk.Kid
	}
	if algorithmName == "" {
		algorithmName = jwk.Alg
	}
	return NewKey(id, algorithmName, signer)
}

func (j anyJWK) private() (crypto.Signer, error) {
	switch j.Kty {
	case "RSA":
		return j.privateRSA()
	case "EC":
		curve, err := curveByName(j.Crv)
		if err != nil {
			return nil, err
		}
		d, err := decodeMember("d", j.D)
		if err != nil {
			return nil, err
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(d) > size {
			return nil, fmt.Errorf("the JWK's d has %d octets: %s has %d", len(d), j.Crv, size)
		}
		padded := make([]byte, size) // some writers leave leading zeros out
		copy(padded[size-len(d):], d)
		key, err := ecdsa.ParseRawPrivateKey(curve, padded)
		if err != nil {
			return nil, errors.New("the JWK's d is not a private key of its curve")
		}
		if j.X != "" || j.Y != "" {
			public, err := j.publicEC(curve)
			if err != nil {
				return nil, err
			}
			if !public.Equal(key.Public()) {
				return nil, errors.New("the JWK's public members (x, y) do not belong to its private one (d)")
			}
		}
		return key, nil
	default:
		return nil, fmt.Errorf("a JWK of kty %q cannot sign client assertions: RSA or EC is needed", truncate(j.Kty, 20))
	}
}

func (j anyJWK) privateRSA() (crypto.Signer, error) {
	if j.Oth != nil {
		return nil, errors.New("the JWK is a multi-prime RSA key (oth), which is not supported")
	}
	public, err := j.publicRSA()
	if err != nil {
		return nil, err
	}
	if err := checkPublic(public); err != nil { // before arithmetic on numbers of any length
		return nil, err
	}
	key := &rsa.PrivateKey{PublicKey: *public}
	numbers := make([]*big.Int, 0, 3)
	for _, member := range []struct{ name, value string }{{"d", j.D}, {"p", j.P}, {"q", j.Q}} {
		octets, err := decodeMember(member.name, member.value)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, new(big.Int).SetBytes(octets))
	}
	key.D, key.Primes = numbers[0], numbers[1:]
	if err := key.Validate(); err != nil {
		return nil, errors.New("the JWK's RSA members do not belong together")
	}
	key.Precompute()
	return key, nil
}

func (j anyJWK) publicRSA() (*rsa.PublicKey, error) {
	n, err := decodeMember("n", j.N)
	if err != nil {
		return nil, err
	}
	e, err := decodeMember("e", j.E)
	if err != nil {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	if !exponent.IsInt64() || exponent.Int64() > 1<<31-1 || exponent.Int64() < 3 {
		return nil, errors.New("the JWK's e is not a usable RSA exponent")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

func (j anyJWK) publicEC(curve elliptic.Curve) (*ecdsa.PublicKey, error) {
	size := (curve.Params().BitSize + 7) / 8
	point := []byte{4}
	for _, member := range []struct{ name, value string }{{"x", j.X}, {"y", j.Y}} {
		octets, err := decodeMember(member.name, member.value)
		if err != nil {
			return nil, err
		}
		if len(octets) != size {
			return nil, fmt.Errorf("the JWK's %s has %d octets: %s has %d (RFC 7518 section 6.2.1)",
				member.name, len(octets), j.Crv, size)
		}
		point = append(point, octets...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("the JWK's x and y are no point on %s", j.Crv)
	}
	return key, nil
}

func curveByName(name string) (elliptic.Curve, error) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if curve.Params().Name == name {
			return curve, nil
		}
	}
	return nil, fmt.Errorf("the JWK's crv %q is not supported: expected P-256, P-384 or P-521", truncate(name, 20))
}

func decodeMember(name, value string) ([]byte, error) {
	if value == "" {
		return nil, fmt.Errorf("the JWK lacks the member %s", name)
	}
	octets, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, fmt.Errorf("the JWK's member %s is not base64url", name)
	}
	return octets, nil
}
