package smartauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	// The hash functions that the algorithms name must be linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"slices"
)

// The size of RSA keys that are taken: less is refused by RFC 7518 section 3.3, more only burns time.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// algorithm is a JWS signature algorithm of RFC 7518 section 3.
type algorithm struct {
	name  string
	hash  crypto.Hash
	curve elliptic.Curve // nil: RSASSA-PKCS1-v1_5
}

var algorithms = []algorithm{
	{name: "RS384", hash: crypto.SHA384},
	{name: "RS256", hash: crypto.SHA256},
	{name: "RS512", hash: crypto.SHA512},
	{name: "ES384", hash: crypto.SHA384, curve: elliptic.P384()},
	{name: "ES256", hash: crypto.SHA256, curve: elliptic.P256()},
	{name: "ES512", hash: crypto.SHA512, curve: elliptic.P521()},
}

func algorithmByName(name string) (algorithm, bool) {
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.name == name })
	if i < 0 {
		return algorithm{}, false
	}
	return algorithms[i], true
}

// fits reports whether a key with this public half can sign by the algorithm.
func (a algorithm) fits(public crypto.PublicKey) bool {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return a.curve == nil
	case *ecdsa.PublicKey:
		return a.curve != nil && key.Curve == a.curve
	default:
		return false
	}
}

// chooseAlgorithm returns the named algorithm if the key can sign by it; without a name, the default of the key's type,
// which is the first in the table that fits.
func chooseAlgorithm(name string, public crypto.PublicKey) (algorithm, error) {
	if name == "" {
		for _, a := range algorithms {
			if a.fits(public) {
				return a, nil
			}
		}
		return algorithm{}, fmt.Errorf("%s cannot sign client assertions:"+
			" an RSA key, or an EC key on P-256, P-384 or P-521 is needed", describePublic(public))
	}
	a, ok := algorithmByName(name)
	if !ok {
		return algorithm{}, fmt.Errorf("unknown algorithm %q: expected RS256, RS384, RS512, ES256, ES384 or ES512", name)
	}
	if !a.fits(public) {
		return algorithm{}, fmt.Errorf("algorithm %s does not fit %s", name, describePublic(public))
	}
	return a, nil
}

// checkPublic refuses keys that no server may accept.
func checkPublic(public crypto.PublicKey) error {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	switch bits := key.N.BitLen(); {
	case bits < minRSABits:
		return fmt.Errorf("the RSA key has %d bits: at least %d are required (RFC 7518 section 3.3)", bits, minRSABits)
	case bits > maxRSABits:
		return fmt.Errorf("the RSA key has %d bits: at most %d are taken", bits, maxRSABits)
	}
	return nil
}

func describePublic(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return "an RSA key"
	case *ecdsa.PublicKey:
		return "an EC key on " + key.Curve.Params().Name
	default:
		return fmt.Sprintf("a key of type %T", public)
	}
}
