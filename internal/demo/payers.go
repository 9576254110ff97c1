package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
	"ingestd/internal/verify"
)

// payer is a simulated payer, as the demo and the configuration know it.
type payer struct {
	name      string
	algorithm string // of the key that ingestd signs with there
	level     string
	groupID   string
	says      string // what is special about it
	options   payersim.Options

	url    string
	sim    *payersim.Server
	server *http.Server
	served chan error
	// rounds are what the payer held at each export, once it has been asked.
	rounds []verify.Source
}

// cast is the demo's payers.
func cast(patients int) []*payer {
	return []*payer{
		{
			name: "summit", algorithm: "RS384", level: "system",
			says: "is slow: its files come at 250 kB/s",
			options: payersim.Options{
				Patients: patients, Seed: 11, Changes: 0.08, LinesPerFile: 1500,
				Faults: payersim.Faults{BytesPerSecond: 250_000, RetryAfter: time.Second},
			},
		},
		{
			name: "harbor", algorithm: "ES384", level: "patient",
			says: "gives tokens for 3 seconds: they expire within the export",
			options: payersim.Options{
				Patients: patients, Seed: 22, Changes: 0.08, LinesPerFile: 1500, TokenLifetime: 3 * time.Second,
				Faults: payersim.Faults{ExportDuration: 5 * time.Second, RetryAfter: time.Second},
			},
		},
		{
			name: "meadow", algorithm: "ES384", level: "group", groupID: "42",
			says: "answers its first kick-off, status and file requests with 503",
			options: payersim.Options{
				Patients: patients, Seed: 33, Changes: 0.08, LinesPerFile: 1500,
				Faults: payersim.Faults{KickOffFailFirst: 1, StatusFailFirst: 1, FileFailFirst: 1, RetryAfter: time.Second},
			},
		},
	}
}

// start makes the payer's key and starts the payer on a free loopback port.
func (p *payer) start(ctx context.Context, dir string) error {
	key, err := smartauth.GenerateKey(p.algorithm, p.name)
	if err != nil {
		return fmt.Errorf("make the key for %s: %w", p.name, err)
	}
	if err := smartauth.WriteKeyFile(p.keyFile(dir), key); err != nil {
		return fmt.Errorf("write the key for %s: %w", p.name, err)
	}
	jwks, err := smartauth.NewJWKS(key)
	if err != nil {
		return fmt.Errorf("print the key set for %s: %w", p.name, err)
	}
	p.options.Clients = []payersim.Client{{ID: p.clientID(), JWKS: jwks}}
	if p.sim, err = payersim.New(p.options); err != nil {
		return fmt.Errorf("start payer %s: %w", p.name, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start payer %s: %w", p.name, err)
	}
	p.url = "http://" + listener.Addr().String() + "/fhir"
	p.server = &http.Server{Handler: p.sim, ReadHeaderTimeout: 10 * time.Second}
	p.served = make(chan error, 1)
	go func() { p.served <- p.server.Serve(listener) }()
	return nil
}

// stop ends the payer and waits for it.
func (p *payer) stop() error {
	if p.server == nil {
		return nil
	}
	_ = p.server.Close() // what is running is of no use any more
	err := <-p.served
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, p.sim.Close())
}

func (p *payer) clientID() string          { return "ingestd-at-" + p.name }
func (p *payer) keyFile(dir string) string { return filepath.Join(dir, p.name+".pem") }

// held asks the payer what it held in the round of its n-th export, from 1, and remembers it.
func (p *payer) held(ctx context.Context, n int) (verify.Source, error) {
	for round := len(p.rounds); round < n; round++ {
		all := make(verify.Source)
		err := p.sim.TruthAt(ctx, round, types, func(resourceType, id string, line []byte) bool {
			all.Add(resourceType, id, line)
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("ask %s what it holds: %w", p.name, err)
		}
		p.rounds = append(p.rounds, all)
	}
	return p.rounds[n-1], nil
}

// types are what the demo asks for.
var types = []string{"Coverage", "ExplanationOfBenefit", "Organization", "Patient", "Practitioner"}
