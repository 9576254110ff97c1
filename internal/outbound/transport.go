package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"ingestd/internal/config"
)

// Options says how to connect to one payer. The zero value of every field but FHIRURL has a sensible default.
type Options struct {
	// FHIRURL is the payer's FHIR base. Its host may lie in a private network.
	FHIRURL string
	// TrustedHosts are further hosts, host or host:port, that the configuration names and that may lie in a private network.
	TrustedHosts []string
	TLS          config.TLS
	// MaxConnsPerHost bounds the connections to one host; default 8.
	MaxConnsPerHost int
	// DialTimeout bounds name resolution and connecting; default 15 s.
	DialTimeout time.Duration
	// TLSHandshakeTimeout defaults to 15 s.
	TLSHandshakeTimeout time.Duration
	// ResponseHeaderTimeout is from the end of the request to the response's header; default 2 min, because some payers
	// prepare the answer to a kick-off while the client waits.
	ResponseHeaderTimeout time.Duration
	// RequestsPerSecond spreads the requests over this transport; 0 does not.
	RequestsPerSecond float64
	// Resolver defaults to the system's. Tests replace it.
	Resolver *net.Resolver
	// Observer, where set, is told of each request. It must be quick and safe for concurrent use.
	Observer func(Exchange)
}

// controlConns is the number of connections that a payer's kick-offs, polls and token requests may need beside its
// downloads.
const controlConns = 4

// ForPayer returns the options that a payer's configuration asks for.
func ForPayer(payer config.Payer) Options {
	options := Options{
		FHIRURL:         payer.FHIRURL,
		TLS:             payer.TLS,
		MaxConnsPerHost: max(payer.Limits.Downloads, 1) + controlConns,

		RequestsPerSecond: payer.Limits.RequestsPerSecond,
	}
	if u, err := url.Parse(payer.Auth.TokenURL); err == nil && u.Host != "" {
		options.TrustedHosts = append(options.TrustedHosts, u.Host)
	}
	for _, host := range payer.DownloadHosts {
		options.TrustedHosts = append(options.TrustedHosts, host.Host)
	}
	return options
}

// Transport connects to one payer and the hosts that it names. It never decompresses, follows no redirect and adds no
// header. It is safe for concurrent use.
type Transport struct {
	base *http.Transport
	once *http.Transport // for kick-offs: each on a connection of its own
	pace *pace
	tls  *tls.Config // of its own: net/http changes those in base and once at the first request

	observer     func(Exchange)
	clientExpiry time.Time
}

// New returns a transport. It fails if the FHIR base is no http or https URL, or if the TLS files cannot be read or used.
func New(o Options) (*Transport, error) {
	base, err := url.Parse(o.FHIRURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, errors.New("fhir_url is no http or https URL")
	}
	tlsConfig, clientExpiry, err := newTLSConfig(o.TLS)
	if err != nil {
		return nil, err
	}
	resolver := o.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	g := &guard{
		trusted: map[string]bool{normalHost(base.Hostname()): true},
		neighbours: neighbours{
			base: normalHost(base.Hostname()), port: base.Port(), tls: tlsConfig.Clone(), resolver: resolver, known: make(map[addressRange]bool),
			denied: make(map[addressRange]time.Time),
		},
		dialer: net.Dialer{
			Timeout:   orDefault(o.DialTimeout, 15*time.Second),
			KeepAlive: 30 * time.Second,
			Resolver:  resolver,
		},
	}
	for _, host := range o.TrustedHosts {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		g.trusted[normalHost(host)] = true
	}
	conns := o.MaxConnsPerHost
	if conns <= 0 {
		conns = 8
	}
	t := &Transport{
		base: newBase(o, g.dial, tlsConfig.Clone(), conns), once: newBase(o, g.dial, tlsConfig.Clone(), conns),
		pace: newPace(o.RequestsPerSecond), tls: tlsConfig, observer: o.Observer, clientExpiry: clientExpiry,
	}
	t.once.DisableKeepAlives = true
	return t, nil
}

// newBase returns a transport of the standard library that dials by the guard. It owns tlsConfig.
func newBase(o Options, dial func(context.Context, string, string) (net.Conn, error), tlsConfig *tls.Config, conns int) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    orDefault(o.TLSHandshakeTimeout, 15*time.Second),
		ResponseHeaderTimeout:  orDefault(o.ResponseHeaderTimeout, 2*time.Minute),
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           4 * conns,
		MaxIdleConnsPerHost:    conns,
		MaxConnsPerHost:        conns,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
		DisableCompression:     true, // what was sent is what is checked and resumed, so decoding is the reader's
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{
			// A connection that died silently is noticed although nobody writes to it.
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
		},
	}
}

// RoundTrip sends one request. Its errors are *Error, except that a cancelled context's own error comes back as it is.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := checkScheme(request.URL); err != nil {
		closeBody(request)
		return nil, err
	}
	if err := t.pace.wait(request.Context()); err != nil {
		closeBody(request)
		return nil, err
	}
	asked := new(atomic.Bool)
	began := time.Now()
	response, err := t.way(request).RoundTrip(request.WithContext(context.WithValue(request.Context(), askedKey{}, asked)))
	if err != nil && request.Context().Err() == nil {
		err = explain(request.URL.Hostname(), err, asked.Load())
	}
	t.observe(request, began, response, err)
	return response, err
}

// way is what a request is sent by. net/http itself sends a GET once more where a connection that it has used before is closed
// without an answer, and a kick-off that was taken although its answer was lost would start a second export (protocol.md KICK-7):
// it gets a connection that was not used before.
func (t *Transport) way(request *http.Request) *http.Transport {
	if p, ok := request.Context().Value(purposeKey{}).(*purpose); ok && p.endpoint == EndpointKickOff {
		return t.once
	}
	return t.base
}

// askedKey is the context key of an *atomic.Bool that is set when the server asks for a client certificate while a
// connection is made for a request. In TLS 1.3 its refusal comes after the handshake, and may be lost with the connection.
type askedKey struct{}

// clientCertificate answers a server that asks for a client certificate: with pair, or with none.
func clientCertificate(pair *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if asked, ok := info.Context().Value(askedKey{}).(*atomic.Bool); ok {
			asked.Store(true)
		}
		return pair, nil
	}
}

// TLSConfig is a copy of how connections are secured, for who looks at a server's certificate itself.
func (t *Transport) TLSConfig() *tls.Config { return t.tls.Clone() }

// Dial connects to host:port as requests do, to the addresses that they may go to, for who looks at a server itself.
func (t *Transport) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return t.base.DialContext(ctx, network, address) //nolint:wrapcheck // the caller says what a failed dial means
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

func checkScheme(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && config.IsLoopbackHost(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return &Error{
			Code: CodePlainHTTP, Host: u.Hostname(), Detail: "refused plain http",
			Hint: "use https; http is accepted for loopback hosts only",
		}
	}
	return &Error{Code: CodeScheme, Host: u.Hostname(), Detail: "refused a URL that is not https", Hint: "use https"}
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		_ = request.Body.Close() // nothing was read from it
	}
}

// newTLSConfig reads the files that a payer's tls section names, and says when the client certificate ends.
func newTLSConfig(o config.TLS) (c *tls.Config, clientExpiry time.Time, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	switch o.MinVersion {
	case "", "1.2":
	case "1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, time.Time{}, fmt.Errorf("tls.min_version %q: expected 1.2 or 1.3", o.MinVersion)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("read tls.ca_file: %w", err)
		}
		// The file stands for the payer's whole trust: with a CA of its own, public CAs have no say.
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, time.Time{}, fmt.Errorf("tls.ca_file %s holds no PEM certificate", o.CAFile)
		}
	}
	if (o.ClientCertificate == "") != (o.ClientKey == "") {
		return nil, time.Time{}, errors.New("tls.client_certificate and tls.client_key go together: one of them is missing")
	}
	pair := tls.Certificate{}
	if o.ClientCertificate != "" {
		pair, err = tls.LoadX509KeyPair(o.ClientCertificate, o.ClientKey)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("read tls.client_certificate and tls.client_key: %w", err)
		}
		if pair.Leaf != nil {
			clientExpiry = pair.Leaf.NotAfter
		}
	}
	c.GetClientCertificate = clientCertificate(&pair)
	return c, clientExpiry, nil
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return fallback
}
