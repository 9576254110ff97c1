package daemon

import (
	"context"
	"crypto"
	"fmt"

	"ingestd/internal/awssecrets"
	"ingestd/internal/config"
	"ingestd/internal/store"
)

// Secrets follows the references of a configuration: those to this machine as config does, those to AWS by asking AWS.
type Secrets struct {
	aws *awssecrets.Client
}

// NewSecrets returns Secrets that ask AWS by client; nil is a client that finds its credentials as every AWS SDK does.
// Nothing is asked before a reference is followed.
func NewSecrets(client *awssecrets.Client) *Secrets {
	if client == nil {
		client = awssecrets.New(awssecrets.Options{})
	}
	return &Secrets{aws: client}
}

// Resolve returns the secret that a reference names. It reads anew each time, so that a rotated secret is found.
func (s *Secrets) Resolve(ctx context.Context, reference config.Secret) ([]byte, error) {
	if scheme, name, _ := reference.Reference(); scheme == config.SchemeSecretsManager {
		return s.aws.Secret(ctx, name)
	}
	return reference.Resolve(ctx)
}

// ResolvePrivate is Resolve for a private key: a file that its group or others may read is refused.
func (s *Secrets) ResolvePrivate(ctx context.Context, reference config.Secret) ([]byte, error) {
	if scheme, name, _ := reference.Reference(); scheme == config.SchemeSecretsManager {
		return s.aws.Secret(ctx, name)
	}
	return reference.ResolvePrivate(ctx)
}

// DatabaseURL returns a connection string: what is written, or what the reference names.
func (s *Secrets) DatabaseURL(ctx context.Context, url config.Secret) (string, error) {
	if scheme, name, _ := url.Reference(); scheme == config.SchemeSecretsManager {
		url, err := s.aws.Secret(ctx, name)
		return string(url), err
	}
	return url.ResolveURL(ctx)
}

// databasePassword returns what asks for the password of each new connection; nil where that is in the URL, or there is none.
func (s *Secrets) databasePassword(d config.Database) func(context.Context, store.Login) (string, error) {
	switch {
	case d.Auth == config.AuthRDSIAM:
		return func(ctx context.Context, l store.Login) (string, error) {
			return s.aws.DatabaseToken(ctx, d.Region, l.Host, l.Port, l.User)
		}
	case d.Password != "":
		return func(ctx context.Context, _ store.Login) (string, error) {
			password, err := s.Resolve(ctx, d.Password)
			if err != nil {
				return "", fmt.Errorf("database.password: %w", err)
			}
			return string(password), nil
		}
	}
	return nil
}

// signer returns the key in KMS that a reference names; false where it names something else.
func (s *Secrets) signer(reference config.Secret) (func(context.Context) (crypto.Signer, error), bool) {
	scheme, name, _ := reference.Reference()
	if scheme != config.SchemeKMS {
		return nil, false
	}
	return func(ctx context.Context) (crypto.Signer, error) {
		signer, err := s.aws.Signer(ctx, name)
		if err != nil {
			return nil, err
		}
		return signer, nil
	}, true
}
