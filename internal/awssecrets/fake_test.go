package awssecrets

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAWS answers the calls that the client makes, as KMS and Secrets Manager do over HTTP.
type fakeAWS struct {
	t *testing.T

	mu      sync.Mutex
	secrets map[string]any // by ARN: a string, or []byte
	keys    map[string]crypto.Signer
	aliases map[string]string
	usage   string
	// refuse answers every call with an error of this type.
	refuse string
	calls  []string
}

func newFakeAWS(t *testing.T) (*fakeAWS, *Client) {
	t.Helper()
	fake := &fakeAWS{
		t: t, secrets: make(map[string]any), keys: make(map[string]crypto.Signer), aliases: make(map[string]string), usage: "SIGN_VERIFY",
	}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return fake, New(Options{Load: func(context.Context) (aws.Config, error) {
		return aws.Config{
			BaseEndpoint:     aws.String(server.URL),
			Credentials:      credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret-access-key", ""),
			HTTPClient:       &http.Client{Transport: transport},
			RetryMaxAttempts: 1,
		}, nil
	}})
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	target := r.Header.Get("X-Amz-Target")
	_, call, _ := strings.Cut(target, ".")
	f.calls = append(f.calls, call)
	service := "kms"
	if strings.HasPrefix(target, "secretsmanager") {
		service = "secretsmanager"
	}
	// The region of the signature is the resource's, not this machine's.
	authorization := r.Header.Get("Authorization")
	if !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") ||
		!strings.Contains(authorization, "/eu-central-1/"+service+"/aws4_request") || !strings.Contains(authorization, "Signature=") {
		f.t.Errorf("%s: not signed by SigV4 for eu-central-1: %q", call, authorization)
	}
	var input struct{ SecretId, KeyId, MessageType, SigningAlgorithm, Message string }
	body := json.NewDecoder(r.Body)
	if err := body.Decode(&input); err != nil {
		f.t.Errorf("%s: %v", call, err)
	}
	if f.refuse != "" {
		f.fail(w, f.refuse, "User: arn:aws:sts::111122223333:assumed-role/ingestd is not authorized")
		return
	}
	switch call {
	case "GetSecretValue":
		f.secret(w, input.SecretId)
	case "GetPublicKey":
		f.publicKey(w, input.KeyId)
	case "Sign":
		f.sign(w, input.KeyId, input.MessageType, input.SigningAlgorithm, input.Message)
	default:
		f.fail(w, "UnknownOperationException", call)
	}
}

func (f *fakeAWS) fail(w http.ResponseWriter, kind, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	f.write(w, map[string]any{"__type": kind, "message": message})
}

func (f *fakeAWS) write(w http.ResponseWriter, answer any) {
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeAWS) secret(w http.ResponseWriter, id string) {
	switch value := f.secrets[id].(type) {
	case string:
		f.write(w, map[string]any{"ARN": id, "SecretString": value})
	case []byte:
		f.write(w, map[string]any{"ARN": id, "SecretBinary": value})
	default:
		f.fail(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
}

func (f *fakeAWS) publicKey(w http.ResponseWriter, id string) {
	if target, ok := f.aliases[id]; ok {
		id = target
	}
	key, ok := f.keys[id]
	if !ok {
		f.fail(w, "NotFoundException", "Key does not exist")
		return
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.t.Error(err)
	}
	f.write(w, map[string]any{"KeyId": id, "PublicKey": der, "KeyUsage": f.usage, "KeySpec": "SPEC"})
}

func (f *fakeAWS) sign(w http.ResponseWriter, id, kind, algorithm, message string) {
	key, ok := f.keys[id]
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[algorithm[max(0, len(algorithm)-3):]]
	prefix := "ECDSA_SHA_"
	if _, isRSA := key.(*rsa.PrivateKey); isRSA {
		prefix = "RSASSA_PKCS1_V1_5_SHA_"
	}
	var digest []byte
	if err := json.Unmarshal([]byte(`"`+message+`"`), &digest); err != nil {
		f.t.Error(err)
	}
	if !ok || kind != "DIGEST" || !strings.HasPrefix(algorithm, prefix) || hash == 0 || len(digest) != hash.Size() {
		f.fail(w, "ValidationException", "the request does not fit the key")
		return
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		f.t.Error(err)
	}
	f.write(w, map[string]any{"KeyId": id, "Signature": signature, "SigningAlgorithm": algorithm})
}

func (f *fakeAWS) lock(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}
