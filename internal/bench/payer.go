package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ingestd/internal/payersim"
)

// PayerOptions say what ServePayer serves.
type PayerOptions struct {
	// Base and Changed are the folders of the data, as it is and with changes.
	Base, Changed string
	// JWKS is the file with the client's public keys.
	JWKS string
	// LinesPerFile splits the output; 10,000 if 0.
	LinesPerFile int
}

// clientID is what ingestd is registered as.
const clientID = "bench"

// variants are the payers that one process serves, in the order in which it prints their addresses.
var variants = []struct {
	name          string
	changed, zips bool
	public        bool
}{
	{name: "plain"}, {name: "gzip", zips: true}, {name: "changed", changed: true, zips: true}, {name: "script", zips: true, public: true},
}

// ServePayer serves the data in all variants, each at an address of its own that it prints to out, until ctx ends. It runs
// in a process of its own, so that its CPU time is not ingestd's.
func ServePayer(ctx context.Context, o PayerOptions, out io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, variant := range variants {
		dir := o.Base
		if variant.changed {
			dir = o.Changed
		}
		payer, err := payersim.New(payersim.Options{
			DataDir: dir, LinesPerFile: o.LinesPerFile, PublicFiles: variant.public, CacheBytes: 4 << 30,
			Clients: []payersim.Client{{ID: clientID, JWKSFile: o.JWKS}},
			// What is measured is the transfer, not the patience between two polls.
			Faults: payersim.Faults{RetryAfter: -1},
		})
		if err != nil {
			return fmt.Errorf("serve %s: %w", variant.name, err)
		}
		var handler http.Handler = payer
		if !variant.zips {
			handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Accept-Encoding")
				payer.ServeHTTP(w, r)
			})
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("serve %s: %w", variant.name, err)
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		fmt.Fprintf(out, "%s http://%s/fhir\n", variant.name, listener.Addr())
		group.Go(func() error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", variant.name, err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			return errors.Join(server.Close(), payer.Close())
		})
	}
	return group.Wait()
}

// payerProcess is a payer in a process of its own.
type payerProcess struct {
	command *exec.Cmd
	urls    map[string]string // FHIR base by variant
}

func startPayer(ctx context.Context, program string, o PayerOptions) (*payerProcess, error) {
	//nolint:gosec // it is this program itself
	command := exec.CommandContext(ctx, program, "payer", "--base", o.Base, "--changed", o.Changed, "--jwks", o.JWKS,
		"--lines-per-file", strconv.Itoa(o.LinesPerFile))
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the payer: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start the payer: %w", err)
	}
	p := &payerProcess{command: command, urls: map[string]string{}}
	lines := bufio.NewScanner(out)
	for len(p.urls) < len(variants) && lines.Scan() {
		if name, address, ok := strings.Cut(lines.Text(), " "); ok {
			p.urls[name] = address
		}
	}
	if len(p.urls) < len(variants) {
		return nil, errors.Join(errors.New("the payer did not start"), p.stop())
	}
	return p, nil
}

func (p *payerProcess) stop() error {
	if err := p.command.Process.Kill(); err != nil {
		return fmt.Errorf("stop the payer: %w", err)
	}
	_ = p.command.Wait() // killed
	return nil
}
