package payersim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// Options describe one simulated payer. The zero value of every field but the data source and Clients is usable.
type Options struct {
	// BaseURL is the origin (scheme://host[:port], no path) that the payer builds its URLs from and demands as part of
	// the assertion's audience. Empty: taken from each request's Host, as behind httptest.
	BaseURL string

	// DataDir is a folder of *.ndjson and *.ndjson.gz that is served byte for byte. Exactly one of DataDir and
	// Patients.
	DataDir string
	// Patients is how many patients the generator starts with.
	Patients int
	// Seed picks the generated data: the same seed always gives the same resources.
	Seed uint64
	// Changes is the share (0 to 1) of generated resources that differ on each further export: new, updated or deleted.
	Changes float64

	// Clients are the registered clients; more can be added by [Server.Register].
	Clients []Client
	// Groups are the ids that Group/{id}/$export accepts. Empty: only "42". Each holds every patient.
	Groups []string

	// TokenLifetime is how long an access token is accepted: whole seconds, default 5 minutes.
	TokenLifetime time.Duration
	// LinesPerFile splits the output of each type, default 10,000.
	LinesPerFile int
	// JobLifetime is how long a job's status and files stay after its completion, default 24 hours.
	JobLifetime time.Duration
	// PublicFiles makes manifests say requiresAccessToken false; files then refuse a request that carries a token.
	PublicFiles bool
	// ScopeSyntax is the accepted spelling of scopes: "v1" (system/Patient.read), "v2" (system/Patient.rs) or "" for
	// both.
	ScopeSyntax string
	// Algorithms are the accepted signing algorithms. Empty: RS256, RS384, RS512, ES256, ES384, ES512.
	Algorithms []string
	// CacheBytes bounds the memory that keeps compressed files for the next reader, default 256 MiB; negative switches
	// it off.
	CacheBytes int64
	// ClockOffset is added to the payer's clock: a positive offset makes it run ahead of the client's.
	ClockOffset time.Duration

	// Profile is the name of a real server to imitate, as [Profiles] lists them; empty: none.
	Profile string

	// Faults are the ways in which this payer misbehaves or dawdles.
	Faults Faults

	// HTTPClient fetches JWKS URLs. Default: a client that follows no redirect and gives up after 5 seconds.
	HTTPClient *http.Client
	// Logger receives one debug event a refusal. Default: silent.
	Logger *slog.Logger
}

// Client is a registered client: its id and where its public keys stand, or its secret. Exactly one of the four key fields
// and Secret is set.
type Client struct {
	// ID is the client_id, compared byte for byte.
	ID string
	// JWKSFile is a file with a JWK Set; it is read anew for every token request, so a rotated key counts at once.
	JWKSFile string
	// JWKSURL is fetched as a payer would and cached for the max-age that it names.
	JWKSURL string
	// JWKS is a JWK Set by value.
	JWKS []byte
	// JWKSFunc yields the JWK Set at each token request: for tests that rotate keys.
	JWKSFunc func(ctx context.Context) ([]byte, error)
	// Secret is the client's secret, where it has no keys: sent with HTTP Basic (RFC 6749, 2.3.1), in a request whose body
	// may be empty.
	Secret string
	// SecretInForm wants the secret as the form field client_secret instead.
	SecretInForm bool
	// RawSecret does not form-decode what Basic carries, as some servers do not.
	RawSecret bool
	// Scopes are what the client may ask for at most, space-separated. Empty: "system/*.rs".
	Scopes string
	// ExactScope is the one text that the scope parameter may hold, whatever it means to the server; it then covers Scopes.
	// AB2D wants "clientCreds".
	ExactScope string
	// Audience is what the assertion's aud must be, where that is not the token endpoint's URL: behind a gateway.
	Audience string
}

const (
	defaultTokenLifetime = 5 * time.Minute
	defaultLinesPerFile  = 10_000
	defaultJobLifetime   = 24 * time.Hour
	defaultCacheBytes    = 256 << 20
	defaultGroup         = "42"
	defaultScopes        = "system/*.rs"
)

var allAlgorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}

// withDefaults fills in what was left out and refuses what contradicts itself.
func (o Options) withDefaults() (Options, error) {
	imitated, err := profile(o.Profile)
	if err != nil {
		return o, err
	}
	if imitated.options != nil {
		imitated.options(&o)
	}
	o.Clients = slices.Clone(o.Clients)
	for i := range o.Clients {
		o.Clients[i].SecretInForm = o.Clients[i].SecretInForm || imitated.InForm
	}
	if (o.DataDir == "") == (o.Patients == 0) {
		return o, errors.New("payersim: exactly one of a data folder and a number of patients is needed")
	}
	if o.Patients < 0 || o.Patients > maxPatients {
		return o, fmt.Errorf("payersim: patients must be between 1 and %d, not %d", maxPatients, o.Patients)
	}
	if !(o.Changes >= 0 && o.Changes <= 1) {
		return o, fmt.Errorf("payersim: changes must be a share between 0 and 1, not %v", o.Changes)
	}
	if o.DataDir != "" && o.Changes != 0 {
		return o, errors.New("payersim: data of a folder cannot change; changes needs generated patients")
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = defaultTokenLifetime
	}
	if o.TokenLifetime < time.Second || o.TokenLifetime%time.Second != 0 {
		return o, fmt.Errorf("payersim: the token lifetime must be whole seconds, not %v", o.TokenLifetime)
	}
	if o.LinesPerFile == 0 {
		o.LinesPerFile = defaultLinesPerFile
	}
	if o.LinesPerFile < 0 {
		return o, fmt.Errorf("payersim: lines per file must be positive, not %d", o.LinesPerFile)
	}
	if o.JobLifetime == 0 {
		o.JobLifetime = defaultJobLifetime
	}
	if len(o.Groups) == 0 {
		o.Groups = []string{defaultGroup}
	}
	switch o.ScopeSyntax {
	case "", "v1", "v2":
	default:
		return o, fmt.Errorf("payersim: scope syntax must be v1, v2 or empty, not %q", o.ScopeSyntax)
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = allAlgorithms
	}
	for _, alg := range o.Algorithms {
		if !slices.Contains(allAlgorithms, alg) {
			return o, fmt.Errorf("payersim: unknown signing algorithm %q", alg)
		}
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.HTTPClient == nil {
		o.HTTPClient = &http.Client{
			Timeout:       5 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, o.Faults.check()
}
