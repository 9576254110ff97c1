package export

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"ingestd/internal/config"
)

// Options are what a Client needs. Payer, Authorized and Plain are required.
type Options struct {
	Payer config.Payer
	// Authorized adds the access token to requests; it is used for the FHIR base's origin and for hosts that are listed
	// with token: true.
	Authorized http.RoundTripper
	// Plain never adds a token.
	Plain  http.RoundTripper
	Logger *slog.Logger

	// UserAgent is sent with every request; default ingestd.
	UserAgent string
	// IdleTimeout is how long a file's body may stay silent; default 2 min (FILE-9).
	IdleTimeout time.Duration
	// MaxManifestBytes bounds one page of a manifest, decompressed; default 100 MiB.
	MaxManifestBytes int64
	// MaxExpansion is how many times larger than on the wire a gzip file may become; default 400. FHIR rarely exceeds 40.
	MaxExpansion int64
}

// Client runs the exchanges of Bulk Data exports with one payer. It is safe for concurrent use.
type Client struct {
	payer      config.Payer
	base       *url.URL // the FHIR base without a trailing slash
	tokenHosts map[string]bool
	authorized lane
	plain      lane
	logger     *slog.Logger

	userAgent        string
	idleTimeout      time.Duration
	maxManifestBytes int64
	maxExpansion     int64

	// accept is the rung of the accept ladder that this payer's files answered to (FILE-4).
	accept atomic.Int32
	// noPartial is set once the payer has refused allowPartialManifests.
	noPartial atomic.Bool
}

const (
	defaultIdleTimeout      = 2 * time.Minute
	defaultMaxManifestBytes = 100 << 20
	defaultMaxExpansion     = 400
)

// New returns the client of one payer. It fails if fhir_url is no http or https URL or a transport is missing.
func New(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(o.Payer.FHIRURL, "/"))
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		return nil, fmt.Errorf("payer %s: fhir_url is no http or https URL", o.Payer.Name)
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("payer %s: fhir_url holds more than an address and a path", o.Payer.Name)
	case o.Authorized == nil || o.Plain == nil:
		return nil, errors.New("an export client needs both transports")
	}
	c := &Client{
		payer:            o.Payer,
		base:             base,
		tokenHosts:       make(map[string]bool),
		authorized:       newLane(o.Authorized),
		plain:            newLane(o.Plain),
		logger:           o.Logger,
		userAgent:        o.UserAgent,
		idleTimeout:      o.IdleTimeout,
		maxManifestBytes: o.MaxManifestBytes,
		maxExpansion:     o.MaxExpansion,
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if c.userAgent == "" {
		c.userAgent = "ingestd"
	}
	if c.idleTimeout <= 0 {
		c.idleTimeout = defaultIdleTimeout
	}
	if c.maxManifestBytes <= 0 {
		c.maxManifestBytes = defaultMaxManifestBytes
	}
	if c.maxExpansion <= 0 {
		c.maxExpansion = defaultMaxExpansion
	}
	for _, host := range o.Payer.DownloadHosts {
		if host.Token {
			c.tokenHosts[hostPort(&url.URL{Scheme: "https", Host: host.Host})] = true
		}
	}
	return c, nil
}

// backoff is the wait before attempt number attempts (from 0): doubling from low, at most high, spread by ±20 %.
func backoff(attempts int, low, high time.Duration) time.Duration {
	wait := low
	for range attempts {
		if wait *= 2; wait >= high {
			wait = high
			break
		}
	}
	spread := int64(wait) / 5
	if spread > 0 {
		wait += time.Duration(rand.Int64N(2*spread+1) - spread) //nolint:gosec // a spread in time is no secret
	}
	return min(max(wait, low), high)
}
