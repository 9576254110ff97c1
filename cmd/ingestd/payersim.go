package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/payersim"
)

// payersimFlags are the flags of `ingestd payersim` that are not options of the simulator as they stand.
type payersimFlags struct {
	listen  string
	clients []string
	secrets []string
	faults  string
	fault   []string
	verbose bool
}

func newPayersimCommand() *cobra.Command {
	var flags payersimFlags
	var options payersim.Options
	cmd := &cobra.Command{
		Use:   "payersim --client ID=JWKS (--data DIR | --patients N)",
		Short: "Run a simulated payer: strict SMART Backend Services and Bulk Data export",
		Long: `Run a simulated payer on this machine, to try ingestd and to test it.

It serves a folder of NDJSON files or generated claims data, verifies every token request against the registered keys and
refuses whatever the strictest servers refuse. FHIR base at /fhir; what it holds and has seen is shown under /_sim.`,
		Example: `  ingestd keys jwks --key key.pem > jwks.json
  ingestd payersim --patients 500 --seed 7 --changes 0.05 --client demo=jwks.json
  ingestd payersim --data ./export --client demo=https://ingest.example.org/.well-known/jwks.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPayersim(cmd, flags, options) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.listen, "listen", "127.0.0.1:8180", "address to listen on")
	f.StringVar(&options.BaseURL, "base-url", "", "origin that clients reach it by, where that is not the address")
	f.StringVar(&options.DataDir, "data", "", "serve the *.ndjson and *.ndjson.gz of this folder")
	f.IntVar(&options.Patients, "patients", 0, "generate claims data of this many patients")
	f.Uint64Var(&options.Seed, "seed", 1, "seed of the generated data")
	f.Float64Var(&options.Changes, "changes", 0, "share of generated resources that differ on each further export")
	f.StringArrayVar(&flags.clients, "client", nil, "register a client: ID=JWKS file or URL (repeatable)")
	f.StringArrayVar(&flags.secrets, "client-secret", nil, "register a client with a secret instead of keys: ID=FILE (repeatable)")
	f.StringVar(&options.Profile, "profile", "", "imitate a real server: "+profileNames())
	f.StringArrayVar(&options.Groups, "group", nil, `group id to accept (repeatable; default "42")`)
	f.DurationVar(&options.TokenLifetime, "token-lifetime", 5*time.Minute, "how long an access token is accepted")
	f.IntVar(&options.LinesPerFile, "lines-per-file", 10_000, "lines of an output file")
	f.StringVar(&flags.faults, "faults", "", "YAML file that says how to dawdle and fail")
	f.StringArrayVar(&flags.fault, "fault", nil, "one fault, as KEY=VALUE with a key of that file: file.gzip=corrupt (repeatable)")
	f.BoolVar(&flags.verbose, "verbose", false, "log each refusal on standard error")
	return cmd
}

func runPayersim(cmd *cobra.Command, flags payersimFlags, options payersim.Options) error {
	for _, text := range flags.clients {
		client, err := parseClient(text)
		if err != nil {
			return usageError{err}
		}
		options.Clients = append(options.Clients, client)
	}
	for _, text := range flags.secrets {
		client, err := parseSecretClient(text)
		if err != nil {
			return usageError{err}
		}
		options.Clients = append(options.Clients, client)
	}
	if len(options.Clients) == 0 {
		return usageError{errors.New("payersim: register at least one client: --client ID=JWKS_FILE_OR_URL")}
	}
	if flags.faults != "" || len(flags.fault) > 0 {
		var err error
		if options.Faults, err = payersim.LoadFaults(flags.faults, flags.fault...); err != nil {
			return usageError{err}
		}
	}
	if flags.verbose {
		options.Logger = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	server, err := payersim.New(options)
	if err != nil {
		return usageError{err}
	}
	return errors.Join(servePayersim(cmd, flags.listen, options.BaseURL, server), server.Close())
}

// servePayersim serves until the command's context ends.
func servePayersim(cmd *cobra.Command, address, baseURL string, handler http.Handler) error {
	ctx := cmd.Context()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("payersim: %w", err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if baseURL == "" {
		baseURL = "http://" + listener.Addr().String()
	}
	fmt.Fprintf(cmd.OutOrStdout(), "payersim listens: FHIR base %s/fhir\n", strings.TrimSuffix(baseURL, "/"))
	select {
	case err := <-served:
		return fmt.Errorf("payersim: %w", err)
	case <-ctx.Done():
	}
	// A download has a moment to end; a simulator is not worth waiting longer for.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // what is left is cut off
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("payersim: %w", err)
	}
	return nil
}

// profileNames lists the servers that can be imitated.
func profileNames() string {
	var names []string
	for _, p := range payersim.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// parseSecretClient reads ID=FILE, where the file holds the client's secret.
func parseSecretClient(text string) (payersim.Client, error) {
	at := strings.LastIndex(text, "=")
	if at <= 0 || at == len(text)-1 {
		return payersim.Client{}, fmt.Errorf("--client-secret %q is not ID=FILE", text)
	}
	secret, err := os.ReadFile(text[at+1:])
	if err != nil {
		return payersim.Client{}, fmt.Errorf("--client-secret %s: %w", text[:at], err)
	}
	return payersim.Client{ID: text[:at], Secret: strings.TrimSpace(string(secret))}, nil
}

// parseClient reads ID=JWKS_FILE_OR_URL. An id may hold "=" itself, as URLs do: the last "=" divides, or the one before
// https:// or http://. A file must be there now, so that a mistyped name shows at the start and not as a refused token.
func parseClient(text string) (payersim.Client, error) {
	for _, scheme := range []string{"=https://", "=http://"} {
		if at := strings.LastIndex(text, scheme); at > 0 {
			return payersim.Client{ID: text[:at], JWKSURL: text[at+1:]}, nil
		}
	}
	at := strings.LastIndex(text, "=")
	if at <= 0 || at == len(text)-1 {
		return payersim.Client{}, fmt.Errorf("--client %q is not ID=JWKS_FILE_OR_URL", text)
	}
	client := payersim.Client{ID: text[:at], JWKSFile: text[at+1:]}
	if _, err := os.Stat(client.JWKSFile); err != nil {
		return client, fmt.Errorf("--client %s: key set: %w", client.ID, err)
	}
	return client, nil
}
