package smartauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/youmark/pkcs8"
)

// maxKeyBytes bounds what is parsed as a key: the largest RSA key in PEM has a tenth of it.
const maxKeyBytes = 64 << 10

const maxKidBytes = 255

// Key is a private key that signs client assertions, with the id that payers know it by. It redacts itself in every
// format; only MarshalPEM gives the private half away, and only where it is in memory.
type Key struct {
	id        string
	algorithm algorithm
	// chosen: the algorithm was configured, and a server's list does not override it.
	chosen bool
	signer crypto.Signer
}

// NewKey makes a Key of any signer, for example one whose private half stays in a KMS. id is the kid ("": the RFC 7638
// thumbprint), algorithmName a JWS alg ("": RS384 for RSA, ES256, ES384 or ES512 by the curve). An ECDSA signer returns ASN.1,
// as crypto.Signer demands.
func NewKey(id, algorithmName string, signer crypto.Signer) (*Key, error) {
	public := signer.Public()
	if err := checkPublic(public); err != nil {
		return nil, err
	}
	alg, err := chooseAlgorithm(algorithmName, public)
	if err != nil {
		return nil, err
	}
	if id == "" {
		if id, err = thumbprint(public); err != nil {
			return nil, err
		}
	}
	if err := checkKid(id); err != nil {
		return nil, err
	}
	return &Key{id: id, algorithm: alg, chosen: algorithmName != "", signer: signer}, nil
}

// checkKid refuses ids that cannot stand in a line of text: they also stand in key files and logs.
func checkKid(id string) error {
	unfit := func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }
	if len(id) > maxKidBytes || strings.ContainsFunc(id, unfit) {
		return fmt.Errorf("the kid %q cannot be used: at most %d bytes, without spaces and control characters",
			truncate(id, 40), maxKidBytes)
	}
	return nil
}

// GenerateKey makes a new key: an EC key on the algorithm's curve, or an RSA key of 3072 bits. algorithmName "" is ES384; id ""
// is the RFC 7638 thumbprint.
func GenerateKey(algorithmName, id string) (*Key, error) {
	if algorithmName == "" {
		algorithmName = "ES384"
	}
	alg, ok := algorithmByName(algorithmName)
	if !ok {
		return nil, fmt.Errorf("unknown algorithm %q: expected RS256, RS384, RS512, ES256, ES384 or ES512", algorithmName)
	}
	var signer crypto.Signer
	var err error
	if alg.curve == nil {
		signer, err = rsa.GenerateKey(rand.Reader, 3072)
	} else {
		signer, err = ecdsa.GenerateKey(alg.curve, rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("generate a key for %s: %w", algorithmName, err)
	}
	return NewKey(id, algorithmName, signer)
}

// ParseKey reads a private key: PEM with PKCS#1, PKCS#8 or SEC1 inside, or a JWK (RFC 7517). id is the kid; "" takes the one
// that the file names (a JWK's kid, or a "kid:" line above the PEM block), else the RFC 7638 thumbprint. algorithmName ""
// takes the one that the file names (a JWK's alg, or an "alg:" line), else RS384 for RSA, and ES256, ES384 or ES512 by the
// curve.
func ParseKey(id, algorithmName string, data []byte) (*Key, error) {
	return ParseEncryptedKey(id, algorithmName, data, nil)
}

// ParseEncryptedKey is ParseKey for data that may also be an encrypted PKCS#8 block (RFC 5958), which passphrase opens.
func ParseEncryptedKey(id, algorithmName string, data, passphrase []byte) (*Key, error) {
	if len(data) > maxKeyBytes {
		return nil, fmt.Errorf("a private key of %d bytes: at most %d are read", len(data), maxKeyBytes)
	}
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 {
		return nil, errors.New("the private key is empty")
	}
	if trimmed[0] == '{' {
		return parseJWK(id, algorithmName, trimmed)
	}
	block, preamble := findKeyBlock(data)
	if block == nil {
		return nil, errors.New("no private key found: expected PEM (PKCS#1, PKCS#8 or SEC1) or a JWK")
	}
	signer, err := parseBlock(block, passphrase)
	if err != nil {
		return nil, err
	}
	kid, alg := labelsOf(preamble)
	if id == "" {
		id = kid
	}
	if algorithmName == "" {
		algorithmName = alg
	}
	return NewKey(id, algorithmName, signer)
}

// findKeyBlock returns the first PEM block that is not a parameter block (openssl ecparam writes one ahead of the key),
// and the text above it.
func findKeyBlock(data []byte) (block *pem.Block, preamble []byte) {
	for rest := data; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, nil
		}
		if block.Type != "EC PARAMETERS" {
			return block, data
		}
		rest = after
	}
}

// labelLine is the explanatory text (RFC 7468 section 5.2) that MarshalPEM writes above the block. It is not a PEM header:
// openssl refuses headers other than those of encryption, but skips text outside of the block.
var labelLine = regexp.MustCompile(`(?m)^(kid|alg): *(\S+)[ \r]*$`)

func labelsOf(text []byte) (kid, alg string) {
	head, _, _ := bytes.Cut(text, []byte("-----BEGIN"))
	for _, match := range labelLine.FindAllSubmatch(head, -1) {
		if string(match[1]) == "kid" {
			kid = string(match[2])
		} else {
			alg = string(match[2])
		}
	}
	return kid, alg
}

func parseBlock(block *pem.Block, passphrase []byte) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("the key is encrypted in the old PEM form: convert it with 'openssl pkcs8 -topk8'")
		}
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("the key is encrypted in the old PEM form: convert it with 'openssl pkcs8 -topk8'")
		}
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		if len(passphrase) == 0 {
			return nil, errors.New("the key is encrypted (PKCS#8): a passphrase is needed")
		}
		key, _, err = pkcs8.ParsePrivateKey(block.Bytes, passphrase)
		if err != nil {
			// The library's message tells apart padding and structure, which is nothing to log beside a secret.
			return nil, errors.New("the encrypted key cannot be opened: wrong passphrase, or an unsupported cipher")
		}
	case "PUBLIC KEY", "CERTIFICATE":
		return nil, fmt.Errorf("the file holds a %s: the private key is needed", block.Type)
	default:
		return nil, fmt.Errorf("the PEM block %q is not a private key: expected PKCS#1, PKCS#8 or SEC1", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("parse the PEM block %s: %w", block.Type, err)
	}
	switch signer := key.(type) {
	case *rsa.PrivateKey:
		return signer, nil
	case *ecdsa.PrivateKey:
		return signer, nil
	default:
		return nil, fmt.Errorf("a private key of type %T cannot sign client assertions: RSA or EC is needed", key)
	}
}

// ID is the key's id: the kid of the JWK and of the assertion's header.
func (k *Key) ID() string { return k.id }

// Algorithm is the JWS alg that the key signs by.
func (k *Key) Algorithm() string { return k.algorithm.name }

// Signer is the private half.
func (k *Key) Signer() crypto.Signer { return k.signer }

// Public is the public half: *rsa.PublicKey or *ecdsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.signer.Public() }

// Thumbprint is the RFC 7638 thumbprint of the public half: SHA-256, base64url.
func (k *Key) Thumbprint() string {
	digest, err := thumbprint(k.signer.Public())
	if err != nil {
		return "" // NewKey has refused such keys
	}
	return digest
}

// MarshalPEM writes the private key as PKCS#8 PEM, with the kid (and an alg that is not the default) in lines above the
// block, where ParseKey finds them and other readers skip them. A key that cannot leave its KMS is an error.
func (k *Key) MarshalPEM() ([]byte, error) {
	switch k.signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
	default:
		return nil, fmt.Errorf("key %q cannot be exported: its private half is not in memory", k.id)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, fmt.Errorf("encode key %q: %w", k.id, err)
	}
	text := "kid: " + k.id + "\n"
	if usual, err := chooseAlgorithm("", k.signer.Public()); err == nil && usual.name != k.algorithm.name {
		text += "alg: " + k.algorithm.name + "\n"
	}
	return append([]byte(text), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

// MarshalPublicPEM writes the public half as PKIX PEM, for portals that take no JWK Set.
func (k *Key) MarshalPublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.signer.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the public half of key %q: %w", k.id, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// String names the key without its private half.
func (k *Key) String() string {
	if k == nil {
		return "smartauth.Key(nil)"
	}
	return fmt.Sprintf("smartauth.Key(%s, %s)", k.id, k.algorithm.name)
}

// Format redacts the key under every verb.
func (k *Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// MarshalJSON redacts the key.
func (k *Key) MarshalJSON() ([]byte, error) { return redactedJSON(k.String()) }

// LogValue redacts the key.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
