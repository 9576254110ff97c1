package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/outbound"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
)

// payers makes the client of each payer: its connections, the token that they carry, and the protocol on top.
func payers(ctx context.Context, c *config.Config, manager *smartauth.Manager, logger *slog.Logger) ([]scheduler.Payer, error) {
	keys, err := LoadKeys(ctx, c.Keys)
	if err != nil {
		return nil, err
	}
	all := make([]scheduler.Payer, 0, len(c.Payers))
	for _, p := range c.Payers {
		client, err := payerClient(p, keys, manager, logger)
		if err != nil {
			return nil, fmt.Errorf("payer %s: %w", p.Name, err)
		}
		all = append(all, scheduler.Payer{Config: p, Client: client})
	}
	return all, nil
}

func payerClient(p config.Payer, keys []LoadedKey, manager *smartauth.Manager, logger *slog.Logger) (*export.Client, error) {
	transport, err := outbound.New(outbound.ForPayer(p))
	if err != nil {
		return nil, fmt.Errorf("prepare its connections: %w", err)
	}
	source, err := manager.Source(smartauth.Registration{
		Payer: p.Name, FHIRURL: p.FHIRURL, Method: p.Auth.Method, ClientID: p.Auth.ClientID,
		Keys: signingKeys(keys, p.Auth.Key), Kid: p.Auth.Kid, TokenURL: p.Auth.TokenURL, Audience: p.Auth.Audience,
		Scopes: p.Auth.Scopes, Types: p.Export.Types, Transport: transport, Headers: p.Export.Headers,
		ClientSecret: func(ctx context.Context) (string, error) {
			secret, err := p.Auth.ClientSecret.Resolve(ctx)
			return string(secret), err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare its authorization: %w", err)
	}
	var tokenOrigins []string
	for _, h := range p.DownloadHosts {
		if h.Token {
			tokenOrigins = append(tokenOrigins, h.Host)
		}
	}
	client, err := export.New(export.Options{
		Payer:      p,
		Authorized: source.Transport(transport, smartauth.TransportOptions{TokenOrigins: tokenOrigins}),
		Plain:      transport,
		Logger:     logger,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare its client: %w", err)
	}
	return client, nil
}

// LoadedKey is a configured key with its private half.
type LoadedKey struct {
	*smartauth.Key
	Active bool
}

// LoadKeys reads the configured private keys.
func LoadKeys(ctx context.Context, configured []config.Key) ([]LoadedKey, error) {
	keys := make([]LoadedKey, 0, len(configured))
	for _, k := range configured {
		data, err := k.PrivateKey.ResolvePrivate(ctx)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		key, err := smartauth.ParseKey(k.ID, k.Algorithm, data)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		keys = append(keys, LoadedKey{Key: key, Active: k.State == "active"})
	}
	return keys, nil
}

// signingKeys are the keys that sign for a payer: the one that it names first, then the other active ones, which are tried
// where the payer does not know the first (yet, or any more).
func signingKeys(keys []LoadedKey, name string) []*smartauth.Key {
	var first, others []*smartauth.Key
	for _, k := range keys {
		switch {
		case k.ID() == name:
			first = append(first, k.Key)
		case k.Active:
			others = append(others, k.Key)
		}
	}
	return append(first, others...)
}
