package awssecrets

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Signer is a key in KMS as a crypto.Signer: it signs there, PKCS #1 v1.5 for RSA keys and ASN.1 for EC keys.
type Signer struct {
	client *kms.Client
	// id is the ARN of the key itself: an alias may be moved to another key between two signatures.
	id     string
	public crypto.PublicKey
}

// Signer returns the key of an ARN, of a key or an alias. An error says what is wrong with it: it must exist, be for signing
// (SIGN_VERIFY), and be an RSA key or one on a NIST curve.
func (c *Client) Signer(ctx context.Context, name string) (*Signer, error) {
	signer, err := c.signer(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("aws-kms:%s: %w", name, err)
	}
	return signer, nil
}

func (c *Client) signer(ctx context.Context, name string) (*Signer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resource, err := parseARN(name, "kms")
	if err != nil {
		return nil, err
	}
	regional, err := c.configFor(ctx, resource)
	if err != nil {
		return nil, err
	}
	client := kms.NewFromConfig(regional)
	answer, err := client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(name)})
	if err != nil {
		return nil, explain(err, "kms:GetPublicKey and kms:Sign on it")
	}
	if answer.KeyUsage != types.KeyUsageTypeSignVerify {
		return nil, fmt.Errorf("the key is for %s: one for SIGN_VERIFY is needed", answer.KeyUsage)
	}
	public, err := x509.ParsePKIXPublicKey(answer.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("parse its public key: %w", err)
	}
	switch public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return nil, fmt.Errorf("a key of type %s cannot sign client assertions: RSA or EC on a NIST curve is needed", answer.KeySpec)
	}
	return &Signer{client: client, id: aws.ToString(answer.KeyId), public: public}, nil
}

// Public is the public half: *rsa.PublicKey or *ecdsa.PublicKey.
func (s *Signer) Public() crypto.PublicKey { return s.public }

// Sign signs a digest in KMS. crypto.Signer has no context: the call has a time limit of its own.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm, err := s.algorithm(opts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	answer, err := s.client.Sign(ctx, &kms.SignInput{
		KeyId: aws.String(s.id), Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithm,
	})
	if err != nil {
		return nil, fmt.Errorf("sign in KMS: %w", explain(err, "kms:Sign on the key"))
	}
	return answer.Signature, nil
}

func (s *Signer) algorithm(opts crypto.SignerOpts) (types.SigningAlgorithmSpec, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return "", errors.New("sign in KMS: RSASSA-PSS is not offered")
	}
	_, isRSA := s.public.(*rsa.PublicKey)
	switch hash := opts.HashFunc(); {
	case isRSA && hash == crypto.SHA256:
		return types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, nil
	case isRSA && hash == crypto.SHA384:
		return types.SigningAlgorithmSpecRsassaPkcs1V15Sha384, nil
	case isRSA && hash == crypto.SHA512:
		return types.SigningAlgorithmSpecRsassaPkcs1V15Sha512, nil
	case hash == crypto.SHA256:
		return types.SigningAlgorithmSpecEcdsaSha256, nil
	case hash == crypto.SHA384:
		return types.SigningAlgorithmSpecEcdsaSha384, nil
	case hash == crypto.SHA512:
		return types.SigningAlgorithmSpecEcdsaSha512, nil
	default:
		return "", fmt.Errorf("sign in KMS: %s is not offered", hash)
	}
}
