package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/ops"
	"ingestd/internal/outbound"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
)

// links makes the link to each payer.
type links struct {
	keys    *smartauth.KeyRing
	manager *smartauth.Manager
	secrets *Secrets
	metrics *ops.Metrics // nil counts nothing
	logger  *slog.Logger
}

// link is what connects ingestd with one payer: its connections, the token that they carry, and the protocol on top.
type link struct {
	transport *outbound.Transport
	source    *smartauth.Source
	client    *export.Client
}

// payers makes the client of each payer.
func (l links) payers(c *config.Config) ([]scheduler.Payer, error) {
	all := make([]scheduler.Payer, 0, len(c.Payers))
	for _, p := range c.Payers {
		payer, err := l.payer(p)
		if err != nil {
			return nil, err
		}
		all = append(all, payer)
	}
	return all, nil
}

// payer makes the client of a payer.
func (l links) payer(p config.Payer) (scheduler.Payer, error) {
	made, err := l.to(p)
	if err != nil {
		return scheduler.Payer{}, fmt.Errorf("payer %s: %w", p.Name, err)
	}
	return scheduler.Payer{Config: p, Client: made.client, Covers: made.source.Covers}, nil
}

// pin makes the client of a payer as an export began with it. Its key may have been withdrawn since: then any signs.
func (l links) pin(p config.Payer) (scheduler.Payer, error) {
	if _, err := l.keys.Signing(p.Auth.Key); err != nil {
		p.Auth.Key, p.Auth.Kid = "", ""
	}
	return l.payer(p)
}

// tlsFiles tells, by payer, what lies in the files that secure its connections: a certificate is exchanged under the same name.
func tlsFiles(c *config.Config) map[string]string {
	files := make(map[string]string)
	for _, p := range c.Payers {
		files[p.Name] = p.TLS.Fingerprint()
	}
	return files
}

// follow makes the clients of a changed configuration; payers that have not changed, nor their certificates, keep theirs. exchanged
// are those of whom only the latter have changed.
func (l links) follow(c *config.Config, before *using, files map[string]string) (all []scheduler.Payer, exchanged []string, err error) {
	known := make(map[string]scheduler.Payer, len(before.payers))
	for _, p := range before.payers {
		known[p.Config.Name] = p
	}
	for _, p := range c.Payers {
		old, ok := known[p.Name]
		same := ok && samePayer(old.Config, p)
		if same && before.files[p.Name] == files[p.Name] {
			all = append(all, old)
			continue
		}
		payer, err := l.payer(p)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, payer)
		if same {
			exchanged = append(exchanged, p.Name)
		}
	}
	return all, exchanged, nil
}

// to makes the link to a payer. It sends nothing.
func (l links) to(p config.Payer) (*link, error) {
	options := outbound.ForPayer(p)
	if l.metrics != nil {
		options.Observer = l.metrics.Exchanged(p.Name)
	}
	transport, err := outbound.New(options)
	if err != nil {
		return nil, fmt.Errorf("prepare its connections: %w", err)
	}
	if l.metrics != nil {
		l.metrics.ClientCertificate(p.Name, transport.ClientCertificateExpiry())
	}
	registration, err := l.registration(p)
	if err != nil {
		return nil, fmt.Errorf("prepare its authorization: %w", err)
	}
	registration.Transport = outbound.Purposeful(transport, authEndpoint)
	source, err := l.manager.Source(registration)
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
		Payer: p,
		Authorized: scopeGate{source: source, next: source.Transport(transport, smartauth.TransportOptions{
			TokenOrigins: tokenOrigins,
		})},
		Plain:  transport,
		Logger: l.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare its client: %w", err)
	}
	return &link{transport: transport, source: source, client: client}, nil
}

// authEndpoint tells the requests of the token manager apart: tokens are POSTed for, and what leads to them is read.
func authEndpoint(r *http.Request) outbound.Endpoint {
	if r.Method == http.MethodPost {
		return outbound.EndpointToken
	}
	return outbound.EndpointDiscovery
}

// readTypes are the types that the token must cover; none means all. Attachments lie in Binary resources (protocol.md ATT-2).
func readTypes(p config.Payer) []string {
	types := p.Export.Types
	if p.Export.FetchesAttachments() && len(types) > 0 && !slices.Contains(types, "Binary") {
		types = append(slices.Clone(types), "Binary")
	}
	return types
}

func (l links) registration(p config.Payer) (smartauth.Registration, error) {
	r := smartauth.Registration{
		Payer: p.Name, FHIRURL: p.FHIRURL, Method: p.Auth.Method, ClientID: p.Auth.ClientID,
		Kid: p.Auth.Kid, JKU: p.Auth.JKU, TokenURL: p.Auth.TokenURL, Audience: p.Auth.Audience,
		Scopes: p.Auth.Scopes, Types: readTypes(p), Headers: p.Export.Headers,
		RawBasic: p.Auth.BasicRaw, SendClientID: p.Auth.SendClientID,
	}
	switch p.Auth.Method {
	case smartauth.MethodPrivateKeyJWT:
		signing, err := l.keys.Signing(p.Auth.Key)
		if err != nil {
			return smartauth.Registration{}, err
		}
		r.CurrentKeys = signing
	case smartauth.MethodClientSecretBasic, smartauth.MethodClientSecretPost:
		r.ClientSecret = func(ctx context.Context) (string, error) {
			secret, err := l.secrets.Resolve(ctx, p.Auth.ClientSecret)
			return string(secret), err
		}
	}
	return r, nil
}
