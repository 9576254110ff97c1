package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
	"ingestd/internal/verify"
)

// payer is a simulated payer with data that change, behind a handler that sees what passes.
type payer struct {
	name   string
	sim    *payersim.Server
	base   string // of FHIR
	key    string // the file of the private key
	since  string // export.since of its configuration
	keeps  string // load.history of its configuration
	server *http.Server
	served chan error

	witness *witness
	// gone is set while the payer breaks every connection.
	gone atomic.Bool
}

// startPayer makes the payer's key and serves it on a free loopback port.
func startPayer(ctx context.Context, dir string, n int, seed uint64, seen *witness) (*payer, error) {
	p := &payer{name: fmt.Sprintf("p%02d", n), witness: seen, since: "auto", keeps: "deletes", served: make(chan error, 1)}
	if n%3 == 2 {
		p.since = "never"
	}
	if n%2 == 1 {
		p.keeps = "all"
	}
	key, err := smartauth.GenerateKey("ES384", p.name)
	if err != nil {
		return nil, fmt.Errorf("payer %s: %w", p.name, err)
	}
	pem, err := key.MarshalPEM()
	if err != nil {
		return nil, fmt.Errorf("payer %s: %w", p.name, err)
	}
	seen.sawKey(pem)
	p.key = filepath.Join(dir, p.name+".pem")
	if err := smartauth.WriteKeyFile(p.key, key); err != nil {
		return nil, fmt.Errorf("payer %s: %w", p.name, err)
	}
	jwks, err := smartauth.NewJWKS(key)
	if err != nil {
		return nil, fmt.Errorf("payer %s: %w", p.name, err)
	}
	p.sim, err = payersim.New(payersim.Options{
		Patients: 30, Seed: seed, Changes: 0.05, LinesPerFile: 100, TokenLifetime: 10 * time.Second,
		Clients: []payersim.Client{{ID: p.name, JWKS: jwks}}, Faults: calm(),
	})
	if err != nil {
		return nil, fmt.Errorf("payer %s: %w", p.name, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("payer %s: %w", p.name, err)
	}
	p.base = "http://" + listener.Addr().String() + "/fhir"
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go func() { p.served <- p.server.Serve(listener) }()
	return p, nil
}

// stop ends the payer and waits for it.
func (p *payer) stop() error {
	_ = p.server.Close() // what is running is of no use any more
	err := <-p.served
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, p.sim.Close())
}

const (
	tokenPath = "/auth/token"
	// maxForm bounds what is read of a token request.
	maxForm = 1 << 20
)

// ServeHTTP notes what the witness must know, and lets the simulated payer answer.
func (p *payer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.gone.Load() {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	if r.URL.Path != tokenPath {
		p.sim.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if form, err := url.ParseQuery(string(body)); err == nil {
		p.witness.sawAssertion(form.Get("client_assertion"))
	}
	answer := &tee{ResponseWriter: w}
	defer func() { p.witness.sawTokenResponse(answer.body.Bytes()) }()
	p.sim.ServeHTTP(answer, r)
}

// tee keeps what is answered.
type tee struct {
	http.ResponseWriter

	body bytes.Buffer
}

// Write implements http.ResponseWriter.
func (t *tee) Write(b []byte) (int, error) {
	t.body.Write(b)
	return t.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// held is what the payer held in the round of its last export.
func (p *payer) held() (verify.Source, error) {
	all := make(verify.Source)
	err := p.sim.Truth(func(resourceType, id string, line []byte) bool {
		all.Add(resourceType, id, line)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("ask payer %s what it holds: %w", p.name, err)
	}
	return all, nil
}

// abroad is an origin that belongs to no payer. Whatever names it, no token may come here.
type abroad struct {
	url    string
	server *http.Server
	served chan error
}

func openAbroad(ctx context.Context, seen *witness) (*abroad, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a foreign origin: %w", err)
	}
	a := &abroad{url: "http://" + listener.Addr().String(), served: make(chan error, 1)}
	a.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			seen.sawAbroad()
		}
		w.WriteHeader(http.StatusNotFound)
	})}
	go func() { a.served <- a.server.Serve(listener) }()
	return a, nil
}

func (a *abroad) close() error {
	_ = a.server.Close()
	if err := <-a.served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the foreign origin: %w", err)
	}
	return nil
}
