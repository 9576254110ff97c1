package awssecrets

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-jose/go-jose/v4"

	"ingestd/internal/smartauth"
)

const (
	secretARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:ingestd-AbCdEf"
	keyARN    = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	otherARN  = "arn:aws:kms:eu-central-1:111122223333:key/other"
	aliasARN  = "arn:aws:kms:eu-central-1:111122223333:alias/ingestd"
)

func TestSecret_gives_the_whole_or_a_member(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, reference string
		value           any
		want            string
	}{
		{"whole text", secretARN, "p4ss word", "p4ss word"},
		{"binary", secretARN, []byte{1, 2, 3}, "\x01\x02\x03"},
		{"member", secretARN + "#password", `{"username":"u","password":"p\"ss"}`, `p"ss`},
		{"number", secretARN + "#port", `{"port":5432}`, "5432"},
		{"large number to the digit", secretARN + "#n", `{"n":12345678901234567890}`, "12345678901234567890"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake, client := newFakeAWS(t)
			fake.secrets[secretARN] = test.value
			got, err := client.Secret(t.Context(), test.reference)
			if err != nil || string(got) != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestSecret_errors_name_the_reference_and_the_fix_but_no_value(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, reference, value, refuse, want string
	}{
		{"not JSON", secretARN + "#password", "HUNTER2", "", "no JSON object"},
		{"no such member", secretARN + "#password", `{"passwort":"HUNTER2"}`, "", "no such member"},
		{"a list", secretARN + "#password", `{"password":["HUNTER2"]}`, "", "neither a string nor a number"},
		{"null", secretARN + "#password", `{"password":null,"x":"HUNTER2"}`, "", "is empty"},
		{"empty", secretARN, "", "", "is empty"},
		{"missing", secretARN + "-other", "HUNTER2", "", "can't find"},
		{"denied", secretARN, "HUNTER2", "AccessDeniedException", "the role must allow secretsmanager:GetSecretValue"},
		{"wrong credentials", secretARN, "HUNTER2", "UnrecognizedClientException", "credentials are wrong or expired"},
		{"other service", keyARN, "HUNTER2", "", "expected an ARN of secretsmanager"},
		{"no ARN", "ingestd", "HUNTER2", "", "expected an ARN of secretsmanager"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake, client := newFakeAWS(t)
			fake.secrets[secretARN], fake.refuse = test.value, test.refuse
			got, err := client.Secret(t.Context(), test.reference)
			if err == nil {
				t.Fatalf("got %q, want an error", got)
			}
			if text := err.Error(); !strings.Contains(text, test.want) || !strings.Contains(text, test.reference) ||
				strings.Contains(text, "HUNTER2") {
				t.Errorf("got %q; want %q and the reference, and no value", text, test.want)
			}
		})
	}
}

func TestSecret_is_asked_for_anew_each_time(t *testing.T) {
	t.Parallel()
	fake, client := newFakeAWS(t)
	for _, value := range []string{"first", "rotated"} {
		fake.lock(func() { fake.secrets[secretARN] = value })
		if got, err := client.Secret(t.Context(), secretARN); err != nil || string(got) != value {
			t.Errorf("got %q, %v; want %q", got, err, value)
		}
	}
}

func TestSigner_signs_assertions_that_another_library_verifies(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, inner := range map[string]crypto.Signer{
		"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey,
		"ES256": newECKey(t, elliptic.P256()), "ES384": newECKey(t, elliptic.P384()), "ES512": newECKey(t, elliptic.P521()),
	} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			fake, client := newFakeAWS(t)
			fake.keys[keyARN], fake.aliases[aliasARN] = inner, keyARN
			signer, err := client.Signer(t.Context(), aliasARN)
			if err != nil {
				t.Fatal(err)
			}
			// The alias moves on; what was published stays what signs.
			fake.lock(func() { fake.aliases[aliasARN] = otherARN })
			key, err := smartauth.NewKey("kms", algorithm, signer)
			if err != nil {
				t.Fatal(err)
			}
			set, err := smartauth.NewJWKS(key)
			if err != nil {
				t.Fatal(err)
			}
			published, err := smartauth.ParseJWKS(set)
			if err != nil || len(published) != 1 || published[0].Thumbprint != key.Thumbprint() || published[0].Private {
				t.Errorf("JWKS: got %+v, %v; want the public key of KMS", published, err)
			}
			compact := assertionOf(t, key)
			parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parsed.Verify(inner.Public()); err != nil {
				t.Errorf("go-jose does not verify the assertion: %v", err)
			}
			if _, err := key.MarshalPEM(); err == nil {
				t.Error("the private half can be written to a file")
			}
		})
	}
}

func newECKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSigner_names_what_is_wrong_with_a_key(t *testing.T) {
	t.Parallel()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, reference, usage, refuse string
		key                            crypto.Signer
		want                           string
	}{
		{"for encryption", keyARN, "ENCRYPT_DECRYPT", "", newECKey(t, elliptic.P256()), "SIGN_VERIFY is needed"},
		{"Ed25519", keyARN, "SIGN_VERIFY", "", edwards, "RSA or EC"},
		{"missing", otherARN, "SIGN_VERIFY", "", edwards, "does not exist"},
		{"denied", keyARN, "SIGN_VERIFY", "AccessDeniedException", edwards, "the role must allow kms:GetPublicKey"},
		{"other service", secretARN, "SIGN_VERIFY", "", edwards, "expected an ARN of kms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake, client := newFakeAWS(t)
			fake.keys[keyARN], fake.usage, fake.refuse = test.key, test.usage, test.refuse
			_, err := client.Signer(t.Context(), test.reference)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.reference) {
				t.Errorf("got %v; want %q and the reference", err, test.want)
			}
		})
	}
}

func TestSign_refuses_what_KMS_has_no_name_for_and_tells_of_refusals(t *testing.T) {
	t.Parallel()
	fake, client := newFakeAWS(t)
	fake.keys[keyARN] = newECKey(t, elliptic.P384())
	signer, err := client.Signer(t.Context(), keyARN)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384([]byte("text"))
	if _, err := signer.Sign(nil, digest[:20], crypto.SHA1); err == nil {
		t.Error("SHA-1: accepted")
	}
	if _, err := signer.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA384}); err == nil {
		t.Error("PSS: accepted")
	}
	if slices.Contains(fake.calls, "Sign") {
		t.Error("KMS was asked for a signature that it has no name for")
	}
	fake.lock(func() { fake.refuse = "AccessDeniedException" })
	if _, err := signer.Sign(nil, digest[:], crypto.SHA384); err == nil || !strings.Contains(err.Error(), "kms:Sign") {
		t.Errorf("got %v, want what the role must allow", err)
	}
}

func TestClient_loads_its_configuration_again_after_a_failure(t *testing.T) {
	t.Parallel()
	fake, working := newFakeAWS(t)
	fake.secrets[secretARN] = "value"
	failures := 1
	client := New(Options{Load: func(ctx context.Context) (aws.Config, error) {
		if failures > 0 {
			failures--
			return aws.Config{}, errors.New("the shared file is being written")
		}
		return working.load(ctx)
	}})
	if _, err := client.Secret(t.Context(), secretARN); err == nil || !strings.Contains(err.Error(), "being written") {
		t.Fatalf("got %v, want the failure", err)
	}
	if got, err := client.Secret(t.Context(), secretARN); err != nil || string(got) != "value" {
		t.Errorf("got %q, %v; want the value", got, err)
	}
}

func TestClient_says_what_to_check_where_AWS_is_out_of_reach(t *testing.T) {
	t.Parallel()
	_, client := newFakeAWS(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Secret(ctx, secretARN); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("got %v, want the cause and what to check", err)
	}
}

// assertionOf asks a token endpoint for a token, and returns the assertion that it was shown.
func assertionOf(t *testing.T, key *smartauth.Key) string {
	t.Helper()
	var compact string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		compact = r.PostFormValue("client_assertion")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"t","token_type":"bearer","expires_in":300}`))
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	manager := smartauth.NewManager(smartauth.ManagerOptions{})
	defer manager.Close()
	source, err := manager.Source(smartauth.Registration{
		Payer: "payer", FHIRURL: server.URL + "/fhir", TokenURL: server.URL + "/token", ClientID: "client",
		Keys: []*smartauth.Key{key}, Types: []string{"Patient"}, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	return compact
}
