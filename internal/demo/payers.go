package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// payer is a simulated payer, as the demo and the configuration know it.
type payer struct {
	name      string
	algorithm string // of the key that ingestd signs with there
	kid       string // the name that the payer gave the key; empty where it takes ours
	level     string
	groupID   string
	says      string // what is special about it
	options   payersim.Options

	url    string
	sim    *payersim.Server
	server *http.Server
	served chan error
	// rounds are the digests of what the payer held at each export, as far as they have been asked for.
	rounds []holdings
}

// tokenLifetime is harbor's: shorter than its exports take.
const tokenLifetime = 3 * time.Second

// cast is the demo's payers.
func cast(patients int) []*payer {
	options := func(seed uint64, o payersim.Options) payersim.Options {
		o.Patients, o.Seed, o.Changes, o.LinesPerFile = patients, seed, 0.08, 1500
		o.Faults.RetryAfter = time.Second
		return o
	}
	return []*payer{
		{
			name: "summit", algorithm: "RS384", level: "system",
			says: "RS384 key, system export. Slow: each file trickles in at 250 kB/s, compressed.",
			options: options(11, payersim.Options{
				Faults: payersim.Faults{BytesPerSecond: 250_000},
			}),
		},
		{
			name: "harbor", algorithm: "ES384", level: "patient",
			says: fmt.Sprintf("ES384 key, patient export. Its tokens live %s, its exports take longer.", tokenLifetime),
			options: options(22, payersim.Options{
				TokenLifetime: tokenLifetime,
				Faults:        payersim.Faults{ExportDuration: 5 * time.Second},
			}),
		},
		{
			name: "meadow", algorithm: "ES384", kid: "mdw-0042", level: "group", groupID: "42",
			says: "ES384 key under a kid of the payer's own, group export. Answers 503 to the first kick-off, poll and download.",
			options: options(33, payersim.Options{
				Faults: payersim.Faults{KickOffFailFirst: 1, StatusFailFirst: 1, FileFailFirst: 1},
			}),
		},
	}
}

// start makes the payer's key and starts the payer on a free loopback port.
func (p *payer) start(ctx context.Context, dir string) error {
	key, err := smartauth.GenerateKey(p.algorithm, cmp.Or(p.kid, p.keyID()))
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

func (p *payer) keyID() string             { return p.name + "-2026" }
func (p *payer) clientID() string          { return "ingestd-at-" + p.name }
func (p *payer) keyFile(dir string) string { return filepath.Join(dir, p.keyID()+".pem") }
