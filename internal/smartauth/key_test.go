package smartauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/youmark/pkcs8"
)

func pemOf(kind string, der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// foreignJWK is the key as another library writes it.
func foreignJWK(t *testing.T, key crypto.PrivateKey, kid, alg string) []byte {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: alg})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseKey_reads_every_form(t *testing.T) {
	t.Parallel()
	rsaKey := testRSAKey().Signer().(*rsa.PrivateKey)
	p384 := testKey().Signer().(*ecdsa.PrivateKey)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8Of := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pemOf("PRIVATE KEY", der, err)
	}
	sec1Of := func(key *ecdsa.PrivateKey) []byte {
		der, err := x509.MarshalECPrivateKey(key)
		return pemOf("EC PRIVATE KEY", der, err)
	}
	encrypted, err := pkcs8.MarshalPrivateKey(p384, []byte("open sesame"), nil)
	parameters := pemOf("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}, nil)
	for _, test := range []struct {
		name      string
		data      []byte
		algorithm string
		kid       string // "": the thumbprint
		want      crypto.Signer
	}{
		{"PKCS#1", pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), "RS384", "", rsaKey},
		{"PKCS#8 RSA", pkcs8Of(rsaKey), "RS384", "", rsaKey},
		{"PKCS#8 P-256", pkcs8Of(p256), "ES256", "", p256},
		{"PKCS#8 P-384", pkcs8Of(p384), "ES384", "", p384},
		{"PKCS#8 P-521", pkcs8Of(p521), "ES512", "", p521},
		{"SEC1", sec1Of(p384), "ES384", "", p384},
		{"SEC1 behind EC PARAMETERS", append(parameters, sec1Of(p256)...), "ES256", "", p256},
		{"SEC1 with CRLF", bytes.ReplaceAll(sec1Of(p384), []byte("\n"), []byte("\r\n")), "ES384", "", p384},
		{"encrypted PKCS#8", pemOf("ENCRYPTED PRIVATE KEY", encrypted, err), "ES384", "", p384},
		{"labelled", append([]byte("kid: 2026-11\r\nalg: RS512\n"), pkcs8Of(rsaKey)...), "RS512", "2026-11", rsaKey},
		{"JWK RSA", foreignJWK(t, rsaKey, "jwk-kid", "RS256"), "RS256", "jwk-kid", rsaKey},
		{"JWK P-256", foreignJWK(t, p256, "", ""), "ES256", "", p256},
		{"JWK P-521", append([]byte("\n "), foreignJWK(t, p521, "k", "ES512")...), "ES512", "k", p521},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key, err := ParseEncryptedKey("", "", test.data, []byte("open sesame"))
			if err != nil {
				t.Fatal(err)
			}
			if key.Algorithm() != test.algorithm {
				t.Errorf("algorithm: got %s, want %s", key.Algorithm(), test.algorithm)
			}
			if want := test.kid; want == "" {
				reference := jose.JSONWebKey{Key: test.want.Public()}
				digest, err := reference.Thumbprint(crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if want = base64.RawURLEncoding.EncodeToString(digest); key.ID() != want {
					t.Errorf("kid: got %q, want the RFC 7638 thumbprint %q", key.ID(), want)
				}
			} else if key.ID() != want {
				t.Errorf("kid: got %q, want %q", key.ID(), want)
			}
			if !key.Signer().(interface{ Equal(crypto.PrivateKey) bool }).Equal(test.want) {
				t.Error("another private key came out")
			}
			named, err := ParseEncryptedKey("given", "", test.data, []byte("open sesame"))
			if err != nil || named.ID() != "given" {
				t.Errorf("with an id: got %v, %v; want the id that was given", named, err)
			}
		})
	}
}

func TestParseKey_says_why_it_refuses(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256DER, err := x509.MarshalPKCS8PrivateKey(p256)
	p256PEM := pemOf("PRIVATE KEY", p256DER, err)
	p224DER, err := x509.MarshalPKCS8PrivateKey(p224)
	p224PEM := pemOf("PRIVATE KEY", p224DER, err)
	encrypted, err := pkcs8.MarshalPrivateKey(p256, []byte("open sesame"), nil)
	encryptedPEM := pemOf("ENCRYPTED PRIVATE KEY", encrypted, err)
	public, err := testKey().MarshalPublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := NewJWKS(testKey())
	if err != nil {
		t.Fatal(err)
	}
	mixed := foreignJWK(t, p256, "", "")
	other := foreignJWK(t, testKey().Signer(), "", "")
	var a, b map[string]string
	if json.Unmarshal(mixed, &a) != nil || json.Unmarshal(other, &b) != nil {
		t.Fatal("JWK is no flat object")
	}
	a["x"] = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	mixed, err = json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, algorithm string
		data            []byte
		want            string
	}{
		{"RSA of 1024 bits", "", pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small), nil), "2048"},
		{"P-224", "", p224PEM, "P-256"},
		{"curve and algorithm differ", "ES384", p256PEM, "does not fit an EC key on P-256"},
		{"type and algorithm differ", "RS384", p256PEM, "does not fit"},
		{"unknown algorithm", "HS256", p256PEM, "expected RS256"},
		{"encrypted without passphrase", "", encryptedPEM, "passphrase"},
		{"old encryption", "", []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), "pkcs8 -topk8"},
		{"a public key", "", public, "private key is needed"},
		{"a certificate", "", pemOf("CERTIFICATE", []byte{1}, nil), "private key is needed"},
		{"a JWK Set", "", jwks, "JWK Set"},
		{"a public JWK", "", []byte(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`), "no private member"},
		{"a symmetric JWK", "", []byte(`{"kty":"oct","k":"c2VjcmV0","d":"c2VjcmV0"}`), "RSA or EC"},
		{"JWK halves that differ", "", mixed, "P-256"},
		{"multi-prime JWK", "", []byte(`{"kty":"RSA","d":"AQ","oth":[{}]}`), "multi-prime"},
		{"broken JSON", "", []byte(`{"kty":"EC","d":"c2VjcmV0`), "not valid JSON"},
		{"empty", "", []byte(" \n"), "empty"},
		{"text", "", []byte("hello"), "no private key found"},
		{"too long", "", make([]byte, maxKeyBytes+1), "at most"},
		{"a kid with a line break", "", append([]byte("kid: x\n"), p256PEM...), "kid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id := ""
			if strings.Contains(test.name, "line break") {
				id = "a\nb"
			}
			key, err := ParseKey(id, test.algorithm, test.data)
			if err == nil {
				t.Fatalf("got %v, want an error", key)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want it to say %q", err, test.want)
			}
			if strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("the error quotes key material: %q", err)
			}
		})
	}
}

func TestKEY2_a_JWK_Set_holds_public_members_only_and_another_library_reads_it(t *testing.T) {
	t.Parallel()
	var keys []*Key
	for _, algorithm := range []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"} {
		key, err := GenerateKey(algorithm, algorithm+"-key")
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	data, err := NewJWKS(keys...)
	if err != nil {
		t.Fatal(err)
	}
	var raw struct{ Keys []map[string]any }
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	for _, members := range raw.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if _, ok := members[private]; ok {
				t.Errorf("key %v has the private member %s", members["kid"], private)
			}
		}
		if ops, _ := members["key_ops"].([]any); members["use"] != "sig" || len(ops) != 1 || ops[0] != "verify" {
			t.Errorf("key %v: use %v, key_ops %v; want sig, [verify]", members["kid"], members["use"], members["key_ops"])
		}
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		found := set.Key(key.ID())
		if len(found) != 1 || !found[0].IsPublic() || found[0].Algorithm != key.Algorithm() {
			t.Fatalf("key %s: go-jose reads %v", key.ID(), found)
		}
		if !raw2public(t, found[0]).Equal(keys[i].Public()) {
			t.Errorf("key %s: go-jose reads another public key", key.ID())
		}
	}
	if _, err := NewJWKS(keys[0], keys[0]); err == nil || !strings.Contains(err.Error(), "kid") {
		t.Errorf("KEY-3: one kid twice: got %v, want an error", err)
	}
}

func raw2public(t *testing.T, key jose.JSONWebKey) interface{ Equal(crypto.PublicKey) bool } {
	t.Helper()
	public, ok := key.Key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		t.Fatalf("go-jose gives a %T", key.Key)
	}
	return public
}

func TestKEY2_coordinates_of_10000_keys_have_full_length(t *testing.T) {
	t.Parallel()
	for range 10_000 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		jwk, err := encodePublic(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if len(jwk.X) != 43 || len(jwk.Y) != 43 || strings.Contains(jwk.X+jwk.Y, "=") {
			t.Fatalf("coordinates %q, %q: want 32 octets each, base64url without padding", jwk.X, jwk.Y)
		}
	}
}

func TestKey_survives_being_written_and_read(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RS256", "RS384", "ES256", "ES384", "ES512"} {
		key, err := GenerateKey(algorithm, "kid-of-"+algorithm)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := WriteKeyFile(path, key); err != nil {
			t.Fatal(err)
		}
		if err := WriteKeyFile(path, key); !errors.Is(err, fs.ErrExist) {
			t.Errorf("writing over a key: got %v, want fs.ErrExist", err)
		}
		data, err := ReadKeyFile(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseKey("", "", data)
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() != key.ID() || again.Algorithm() != key.Algorithm() || again.Thumbprint() != key.Thumbprint() {
			t.Errorf("got %v, want %v", again, key)
		}
		if openssl, err := exec.LookPath("openssl"); err == nil {
			if output, err := exec.CommandContext(t.Context(), openssl, "pkey", "-in", path, "-noout").CombinedOutput(); err != nil {
				t.Errorf("openssl cannot read the file: %v: %s", err, output)
			}
		}
	}
}

func TestKEY8_a_key_file_that_others_can_read_is_refused_with_the_remedy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := WriteKeyFile(path, testKey()); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o644: false, 0o604: false, 0o620: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKeyFile(path)
		if (err == nil) != want {
			t.Errorf("mode %04o: got %v, want accepted: %t", mode, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 0600 "+path) {
			t.Errorf("mode %04o: the error does not say what to do: %v", mode, err)
		}
	}
	if _, err := ReadKeyFile(filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a folder: got %v, want an error", err)
	}
}
