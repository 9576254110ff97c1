package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"ingestd/internal/config"
	"ingestd/internal/smartauth"
)

// OpenKeys loads the configured keys. The ring's Run looks for changes: of files, of secrets, and of what an alias in KMS
// stands for.
func OpenKeys(ctx context.Context, keys []config.Key, logger *slog.Logger) (*smartauth.KeyRing, error) {
	return openKeys(ctx, keys, Options{Secrets: NewSecrets(nil), Logger: logger})
}

func openKeys(ctx context.Context, keys []config.Key, o Options) (*smartauth.KeyRing, error) {
	return smartauth.NewKeyRing(ctx, smartauth.KeyRingOptions{
		Entries: keyEntries(keys, o.Secrets), Logger: o.Logger, Every: o.LookForKeys,
	})
}

// keyEntries say how each key is loaded. Nothing is read yet.
func keyEntries(keys []config.Key, secrets *Secrets) []smartauth.KeyEntry {
	entries := make([]smartauth.KeyEntry, 0, len(keys))
	for _, key := range keys {
		entry := smartauth.KeyEntry{ID: key.ID, Algorithm: key.Algorithm, State: key.State}
		if signer, ok := secrets.signer(key.PrivateKey); ok {
			entry.Signer = signer
		} else {
			entry.Load = func(ctx context.Context) ([]byte, error) { return secrets.ResolvePrivate(ctx, key.PrivateKey) }
		}
		if key.Passphrase != "" {
			entry.Passphrase = func(ctx context.Context) ([]byte, error) { return secrets.Resolve(ctx, key.Passphrase) }
		}
		entries = append(entries, entry)
	}
	return entries
}

// listenJWKS opens the public listener of the key set; there is none where the configuration names none, or for a run in the
// foreground.
func (d *Daemon) listenJWKS(ctx context.Context) (net.Listener, error) {
	address := d.options.Config.JWKS.Listen
	if address == "" || d.options.Queue != "" {
		return nil, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("jwks.listen: %w", err)
	}
	d.logger.InfoContext(ctx, "JWKS listener", "address", listener.Addr().String(), "path", smartauth.JWKSPath,
		"tls", d.options.Config.JWKS.CertificateFile != "")
	return listener, nil
}

// jwks is the server of the key set.
func (d *Daemon) jwks() smartauth.JWKSServer {
	c := d.options.Config.JWKS
	return smartauth.JWKSServer{
		Keys: d.keys.Published, MaxAge: c.MaxAge, CertificateFile: c.CertificateFile, KeyFile: c.KeyFile, Logger: d.logger,
	}
}
