package daemon

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"ingestd/internal/awssecrets"
	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

const (
	secretARN = "arn:aws:secretsmanager:us-east-1:111122223333:secret:ingestd-AbCdEf"
	keyARN    = "arn:aws:kms:us-east-1:111122223333:key/1234abcd"
)

// awsSecrets are Secrets that ask a server which holds one secret and one key.
func awsSecrets(t *testing.T, secret string, key *ecdsa.PrivateKey) *Secrets {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
			t.Error("the request is not signed by SigV4")
		}
		var input struct {
			SecretId, KeyId string
			Message         []byte
		}
		if err := json.NewDecoder(r.Body).Decode(&input); err != nil {
			t.Error(err)
		}
		var answer any
		switch _, call, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); {
		case call == "GetSecretValue" && input.SecretId == secretARN:
			answer = map[string]any{"SecretString": secret}
		case call == "GetPublicKey" && input.KeyId == keyARN:
			der, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Error(err)
			}
			answer = map[string]any{"KeyId": keyARN, "PublicKey": der, "KeyUsage": "SIGN_VERIFY"}
		case call == "Sign" && input.KeyId == keyARN:
			signature, err := key.Sign(rand.Reader, input.Message, crypto.SHA384)
			if err != nil {
				t.Error(err)
			}
			answer = map[string]any{"Signature": signature}
		default:
			w.WriteHeader(http.StatusBadRequest)
			answer = map[string]any{"__type": "ResourceNotFoundException", "message": "there is no such thing"}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return NewSecrets(awssecrets.New(awssecrets.Options{Load: func(context.Context) (aws.Config, error) {
		return aws.Config{
			BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(), RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		}, nil
	}}))
}

func newP384(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKMS_key_that_never_leaves_it_gets_a_token_from_a_strict_payer(t *testing.T) {
	t.Parallel()
	inner := newP384(t)
	key, err := smartauth.NewKey("kms", "", inner)
	if err != nil {
		t.Fatal(err)
	}
	base := simulate(t, payersim.Options{
		Algorithms: []string{"ES384"}, Clients: []payersim.Client{{ID: "ingestd", JWKS: jwksOf(t, key)}},
	})
	c := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: kms, private_key: "aws-kms:%s"}]
payers: [{name: one, fhir_url: %q, auth: {client_id: ingestd}, export: {types: [Patient]}}]
`, keyARN, base)
	l := openLinks(t, c, awsSecrets(t, "", inner))
	if err := tokenOf(t.Context(), t, l, c.Payers[0]); err != nil {
		t.Errorf("no token: %v", err)
	}
	if got := l.keys.Published(); len(got) != 1 || got[0].Thumbprint() != key.Thumbprint() {
		t.Errorf("published: got %v, want the public key of KMS", got)
	}
}

func TestSecrets_are_found_in_Secrets_Manager_wherever_one_can_stand(t *testing.T) {
	t.Parallel()
	private := newP384(t)
	key, err := smartauth.NewKey("stored", "", private)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	stored, err := json.Marshal(map[string]string{
		"database": "postgres://u:p@db.example/ingestd", "token": "t0ken", "key": string(pem), "client": "s3cret",
	})
	if err != nil {
		t.Fatal(err)
	}
	base := simulate(t, payersim.Options{Clients: []payersim.Client{{ID: "ingestd", JWKS: jwksOf(t, key)}}})
	c := parse(t, `
database: {url: "aws-secretsmanager:%[1]s#database"}
admin: {token: "aws-secretsmanager:%[1]s#token"}
keys: [{id: stored, private_key: "aws-secretsmanager:%[1]s#key"}]
payers:
  - {name: one, fhir_url: %[2]q, auth: {client_id: ingestd}, export: {types: [Patient]}}
  - name: two
    fhir_url: %[2]q
    auth: {method: client_secret_basic, client_id: other, client_secret: "aws-secretsmanager:%[1]s#client"}
`, secretARN, base)
	secrets := awsSecrets(t, string(stored), nil)
	if url, err := secrets.DatabaseURL(t.Context(), c.Database.URL); err != nil || url != "postgres://u:p@db.example/ingestd" {
		t.Errorf("database.url: got %q, %v", url, err)
	}
	d := &Daemon{options: Options{Config: c, Secrets: secrets}}
	if token, err := d.adminToken(t.Context()); err != nil || token != "t0ken" {
		t.Errorf("admin.token: got %q, %v", token, err)
	}
	l := openLinks(t, c, secrets)
	if err := tokenOf(t.Context(), t, l, c.Payers[0]); err != nil {
		t.Errorf("private_key: no token: %v", err)
	}
	r, err := l.registration(c.Payers[1])
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := r.ClientSecret(t.Context()); err != nil || secret != "s3cret" {
		t.Errorf("client_secret: got %q, %v", secret, err)
	}
}

func TestTOK4_an_export_whose_types_are_not_all_granted_is_not_kicked_off(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := writeKey(t, dir+"/k.pem", "k")
	var kickOffs atomic.Int32
	for _, test := range []struct {
		name, types, granted, missing string
	}{
		{"all granted", "[Patient, Coverage]", "system/Patient.rs system/Coverage.rs", ""},
		{"granted by a wildcard", "[Patient, Coverage]", "system/*.read", ""},
		{"one missing", "[Patient, Coverage, ExplanationOfBenefit]", "system/Patient.read system/ExplanationOfBenefit.rs", "Coverage"},
		{"a list for the wildcard", "[]", "system/Patient.read", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path == "/token" {
					if err := json.NewEncoder(w).Encode(map[string]any{
						"access_token": "t", "token_type": "bearer", "expires_in": 300, "scope": test.granted,
					}); err != nil {
						t.Error(err)
					}
					return
				}
				kickOffs.Add(1)
				w.Header().Set("Content-Location", "http://"+r.Host+"/jobs/1")
				w.WriteHeader(http.StatusAccepted)
			}))
			t.Cleanup(server.Close)
			kickOffs.Store(0)
			c := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: %s, private_key: "file:%s/k.pem"}]
payers: [{name: one, fhir_url: "%[3]s/fhir", auth: {client_id: c, token_url: "%[3]s/token"}, export: {types: %[4]s}}]
`, key.ID(), dir, server.URL, test.types)
			l := openLinks(t, c, NewSecrets(nil))
			made, err := l.to(c.Payers[0])
			if err != nil {
				t.Fatal(err)
			}
			defer made.transport.CloseIdleConnections()
			payer, err := l.payer(c.Payers[0])
			if err != nil {
				t.Fatal(err)
			}
			coverage := strings.Contains(test.granted, "*") || strings.Contains(test.granted, "Coverage")
			if covers, err := payer.Covers(t.Context()); err != nil || !covers("Patient") || covers("Coverage") != coverage {
				t.Errorf("an export of all types cannot tell that %s is granted: %v", test.granted, err)
			}
			_, err = made.client.KickOff(t.Context(), export.KickOffRequest{})
			failure, refused := errors.AsType[*smartauth.Error](err)
			switch {
			case test.missing == "" && (err != nil || kickOffs.Load() != 1):
				t.Errorf("got %v after %d kick-offs, want one that is accepted", err, kickOffs.Load())
			case test.missing != "" && (!refused || failure.Code != smartauth.CodeScopeMissing || failure.Temporary ||
				failure.Description != "not granted: "+test.missing || kickOffs.Load() != 0):
				t.Errorf("got %v after %d kick-offs, want none and the missing type by name", err, kickOffs.Load())
			}
		})
	}
}

func TestSecrets_on_this_machine_need_no_AWS(t *testing.T) {
	t.Setenv("INGESTD_TEST_URL", "postgres://here/x")
	secrets := NewSecrets(awssecrets.New(awssecrets.Options{Load: func(context.Context) (aws.Config, error) {
		t.Error("AWS is asked for what is here")
		return aws.Config{}, nil
	}}))
	for written, want := range map[string]string{
		"env:INGESTD_TEST_URL": "postgres://here/x", "postgres://written/x": "postgres://written/x", "embedded:/var/lib/x": "embedded:/var/lib/x",
	} {
		got, err := secrets.DatabaseURL(t.Context(), config.Secret(written))
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", written, got, err)
		}
	}
	if got, err := secrets.Resolve(t.Context(), "env:INGESTD_TEST_URL"); err != nil || string(got) != "postgres://here/x" {
		t.Errorf("Resolve: got %q, %v", got, err)
	}
}

func TestRegistration_takes_every_setting_of_auth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeKey(t, dir+"/k.pem", "k")
	c := parse(t, `
database: {url: "postgres://localhost/x"}
keys: [{id: k, private_key: "file:%s/k.pem"}]
payers:
  - name: one
    fhir_url: https://one.example/r4
    auth: {client_id: c, kid: theirs, jku: "https://keys.example/JWKS.json", send_client_id: true, audience: "https://issuer.example"}
  - name: two
    fhir_url: https://two.example/r4
    auth: {method: client_secret_basic, client_id: c, client_secret: "env:X", basic_raw: true}
`, dir)
	l := openLinks(t, c, NewSecrets(nil))
	one, err := l.registration(c.Payers[0])
	if err != nil {
		t.Fatal(err)
	}
	if one.Kid != "theirs" || one.JKU != "https://keys.example/JWKS.json" || !one.SendClientID || one.RawBasic ||
		one.Audience != "https://issuer.example" {
		t.Errorf("one: got kid %q, jku %q, send %v, raw %v, aud %q", one.Kid, one.JKU, one.SendClientID, one.RawBasic, one.Audience)
	}
	two, err := l.registration(c.Payers[1])
	if err != nil {
		t.Fatal(err)
	}
	if !two.RawBasic || two.SendClientID || two.CurrentKeys != nil {
		t.Errorf("two: got raw %v, send %v, keys %v; want raw alone", two.RawBasic, two.SendClientID, two.CurrentKeys != nil)
	}
}
