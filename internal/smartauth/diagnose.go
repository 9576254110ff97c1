package smartauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Level is how a check ended.
type Level string

// The levels of a Finding.
const (
	LevelOK   Level = "ok"
	LevelWarn Level = "warn"
	LevelFail Level = "fail"
)

// Finding is a line of a diagnosis.
type Finding struct {
	Check  string `json:"check"` // dns, tls, discovery, clock, jwks, token, scopes
	Level  Level  `json:"level"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // empty for ok
}

// DiagnoseOptions say what to look at besides the registration.
type DiagnoseOptions struct {
	// TLS is how connections to the payer are secured; nil is the default.
	TLS *tls.Config
	// Dial connects to the payer and to what it names; nil connects to whatever it is.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// JWKSURL is where payers fetch the keys; empty where they are registered by value.
	JWKSURL string
	// JWKSRoots replaces the system's certificate authorities for the JWKS URL.
	JWKSRoots *x509.CertPool
	// AllowPrivate takes a JWKS URL that resolves to a private address, for payers in the same network.
	AllowPrivate bool
	// Timeout bounds each check. Default: 15 s.
	Timeout time.Duration
}

// certificateWarning is how long before its end a certificate is worth a warning.
const certificateWarning = 21 * 24 * time.Hour

// Diagnose looks at all that authorization at this payer needs, from the name of the host to the scopes granted. It makes a
// real token request.
func (s *Source) Diagnose(ctx context.Context, options DiagnoseOptions) []Finding {
	if options.Timeout <= 0 {
		options.Timeout = 15 * time.Second
	}
	d := &diagnosis{source: s, options: options}
	reached := d.host(ctx, s.base)
	if reached && s.registration.Method != MethodNone {
		if found := d.discovery(ctx); found != nil {
			d.clock(found)
		}
	}
	if s.registration.Method == MethodPrivateKeyJWT {
		d.jwks(ctx)
	}
	// Without its server a token endpoint that is to be discovered cannot be found: that would tell the same again.
	if s.registration.Method != MethodNone && (reached || s.registration.TokenURL != "") {
		d.token(ctx)
	}
	return d.findings
}

type diagnosis struct {
	source   *Source
	options  DiagnoseOptions
	findings []Finding
}

func (d *diagnosis) add(check string, level Level, detail, fix string) {
	d.findings = append(d.findings, Finding{Check: check, Level: level, Detail: detail, Fix: fix})
}

// host checks that a server can be reached and identifies itself.
func (d *diagnosis) host(ctx context.Context, target *url.URL) bool {
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	o := originOf(target)
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", o.host)
	if err != nil {
		d.add("dns", LevelFail, o.host+" cannot be resolved: "+dnsProblem(err),
			"Check the host in the URL, and this machine's resolver.")
		return false
	}
	d.add("dns", LevelOK, o.host+" resolves to "+joinAddresses(addresses), "")
	if o.scheme == "http" {
		d.add("tls", LevelWarn, o.host+" is reached without TLS, which is allowed on loopback only", "Use https for real payers.")
		return true
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.options.TLS != nil {
		config = d.options.TLS.Clone()
	}
	return d.handshake(ctx, "tls", net.JoinHostPort(o.host, o.port), o.host, config, d.options.Dial)
}

func (d *diagnosis) handshake(ctx context.Context, check, address, name string, config *tls.Config,
	dial func(ctx context.Context, network, address string) (net.Conn, error),
) bool {
	config.ServerName = name
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if err == nil {
		defer func() { _ = conn.Close() }()
		secure := tls.Client(conn, config)
		if err = secure.HandshakeContext(ctx); err == nil {
			return d.certificate(check, address, secure.ConnectionState())
		}
	}
	problem, fix := explainTLS(err)
	if problem == "" {
		problem, fix = "no connection: "+connectProblem(err),
			"Check the port, firewalls, and whether the payer must admit this machine's address."
	}
	d.add(check, LevelFail, address+": "+problem, fix)
	return false
}

// certificate says what a server has shown.
func (d *diagnosis) certificate(check, address string, state tls.ConnectionState) bool {
	leaf := state.PeerCertificates[0]
	detail := fmt.Sprintf("%s: %s, certificate valid until %s",
		address, tls.VersionName(state.Version), leaf.NotAfter.UTC().Format(time.DateOnly))
	if time.Until(leaf.NotAfter) < certificateWarning {
		d.add(check, LevelWarn, detail, "The owner of the server should renew the certificate soon.")
		return true
	}
	d.add(check, LevelOK, detail, "")
	return true
}

func (d *diagnosis) discovery(ctx context.Context) *Discovery {
	ctx, cancel := context.WithTimeout(ctx, 2*d.options.Timeout)
	defer cancel()
	found, err := d.source.Discover(ctx)
	if err != nil {
		d.addError("discovery", err)
		return nil
	}
	detail := "token endpoint at " + hostOf(found.TokenEndpoint) + ", from " + found.Source
	if len(found.Warnings) == 0 {
		d.add("discovery", LevelOK, detail, "")
	}
	for _, warning := range found.Warnings {
		d.add("discovery", LevelWarn, detail+"; "+warning,
			"Ask the payer, or set auth.method and keys[].algorithm to what it takes; the token check tells whether it matters.")
	}
	if endpoint, err := url.Parse(found.TokenEndpoint); err == nil && originOf(endpoint) != d.source.home {
		d.host(ctx, endpoint)
	}
	return found
}

func (d *diagnosis) clock(found *Discovery) {
	server := d.source.home
	if endpoint, err := url.Parse(found.TokenEndpoint); err == nil && d.source.directory == nil {
		server = originOf(endpoint)
	}
	skew, alert := d.source.manager.skewOf(server).seen()
	if alert {
		d.add("clock", LevelWarn, describeSkew(skew), "Set this machine's clock by NTP. Assertions are dated by the server's clock meanwhile.")
		return
	}
	d.add("clock", LevelOK, describeSkew(skew), "")
}

// token makes a real request, and looks at what was granted.
func (d *diagnosis) token(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*d.options.Timeout)
	defer cancel()
	d.source.manager.forget(d.source)
	token, err := d.source.Token(ctx)
	if err != nil {
		d.addError("token", err)
		return
	}
	d.add("token", LevelOK, fmt.Sprintf("issued, for %s", token.Expires.Sub(token.Obtained).Round(time.Second)), "")
	if slices.Contains(token.MissingTypes, "*") {
		d.add("scopes", LevelWarn, "export.types names none, and not all are granted: "+clean(strings.Join(token.Scopes, " "), 300),
			"List the types that the payer has in export.types, so that a missing one is noticed.")
		return
	}
	if len(token.MissingTypes) > 0 {
		d.add("scopes", LevelFail, "not granted: "+strings.Join(token.MissingTypes, ", "),
			"Ask the payer to grant the system/ scopes of these types, or take them out of export.types.")
		return
	}
	d.add("scopes", LevelOK, "granted: "+clean(strings.Join(token.Scopes, " "), 300), "")
}

func (d *diagnosis) addError(check string, err error) {
	if failure, ok := errors.AsType[*Error](err); ok {
		d.add(check, LevelFail, failure.Error(), failure.Hint)
		return
	}
	d.add(check, LevelFail, "no answer in time", hintFor(CodeTimeout))
}

// jwks fetches the key set as a payer does: without credentials, cookies, redirects or a private authority.
func (d *diagnosis) jwks(ctx context.Context) {
	if d.options.JWKSURL == "" {
		d.add("jwks", LevelWarn, "jwks.url is not set: the payer must have the keys by value",
			"If the payer fetches keys from a URL, set jwks.url to it; else upload what 'ingestd keys jwks' prints.")
		return
	}
	const fix = "The JWKS URL must be https, public, and answer GET with the JWK Set, without redirects or authentication."
	target, err := url.Parse(d.options.JWKSURL)
	if err != nil || target.Scheme != "https" || target.Hostname() == "" || target.User != nil {
		d.add("jwks", LevelFail, "jwks.url is not an https URL", fix)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", target.Hostname())
	if err != nil {
		d.add("jwks", LevelFail, target.Hostname()+" cannot be resolved: "+dnsProblem(err), fix)
		return
	}
	private := slices.IndexFunc(addresses, func(a netip.Addr) bool { return !isPublic(a) })
	if private >= 0 && !d.options.AllowPrivate {
		address := addresses[private].Unmap().String()
		d.add("jwks", LevelFail, target.Hostname()+" resolves to "+address+", which payers cannot reach", fix)
		return
	}
	o := originOf(target)
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.options.JWKSRoots}
	if !d.handshake(ctx, "jwks", net.JoinHostPort(o.host, o.port), o.host, config, nil) {
		return
	}
	body, problem := d.fetchJWKS(ctx)
	if problem != "" {
		d.add("jwks", LevelFail, problem, fix)
		return
	}
	d.compareJWKS(body)
}

func (d *diagnosis) fetchJWKS(ctx context.Context) (body []byte, problem string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.options.JWKSURL, http.NoBody)
	if err != nil {
		return nil, "jwks.url cannot be requested"
	}
	request.Header.Set("Accept", "application/json")
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.options.JWKSRoots},
	}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request) // follows no redirect
	if err != nil {
		return nil, "no answer: " + connectProblem(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Sprintf("it answers HTTP %d, not 200", response.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || (kind != "application/json" && kind != "application/jwk-set+json") {
		return nil, fmt.Sprintf("its content type is %q, not application/json", clean(response.Header.Get("Content-Type"), 60))
	}
	body, err = readBounded(response.Body, maxResponse)
	if errors.Is(err, errTooLong) {
		return nil, "it is longer than 1 MiB"
	}
	if err != nil {
		return nil, "it breaks off: " + connectProblem(err)
	}
	return body, ""
}

// compareJWKS checks that the set has the key that signs, under the kid that assertions name.
func (d *diagnosis) compareJWKS(body []byte) {
	published, err := ParseJWKS(body)
	if err != nil {
		d.add("jwks", LevelFail, err.Error(), "Serve what 'ingestd keys jwks' prints.")
		return
	}
	if slices.ContainsFunc(published, func(key PublicKey) bool { return key.Private }) {
		d.add("jwks", LevelFail, "the set gives a PRIVATE key away",
			"Replace the key at once, and serve what 'ingestd keys jwks' prints.")
		return
	}
	registration := d.source.registration
	keys := registration.signing()
	for i, key := range keys {
		kid := registration.kidOf(keys, i)
		var same []PublicKey
		for _, candidate := range published {
			if candidate.ID == kid {
				same = append(same, candidate)
			}
		}
		level := LevelFail
		if i > 0 {
			level = LevelWarn // it signs only where the first is refused
		}
		switch {
		case len(same) == 0:
			d.add("jwks", level, fmt.Sprintf("the set has no key %q", kid),
				"Publish the key there, and wait until payers have fetched the set again, before it signs.")
		case len(same) > 1:
			d.add("jwks", LevelFail, fmt.Sprintf("the set has %d keys %q: servers must refuse them", len(same), kid),
				"Give each key its own kid.")
		case same[0].Thumbprint != key.Thumbprint():
			d.add("jwks", level, fmt.Sprintf("the key %q of the set is not the one that signs", kid),
				"Publish the current public key, or sign with the one published.")
		default:
			d.add("jwks", LevelOK, fmt.Sprintf("the set has the key %q that signs", kid), "")
		}
	}
}

// isPublic reports whether an address can be reached from the Internet.
func isPublic(address netip.Addr) bool {
	address = address.Unmap()
	return address.IsGlobalUnicast() && !address.IsPrivate() && !sharedAddresses.Contains(address)
}

// sharedAddresses is the carrier-grade NAT range of RFC 6598.
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

func joinAddresses(addresses []netip.Addr) string {
	texts := make([]string, 0, len(addresses))
	for _, address := range addresses[:min(len(addresses), 4)] {
		texts = append(texts, address.Unmap().String())
	}
	return strings.Join(texts, ", ")
}

func dnsProblem(err error) string {
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok {
		if dnsErr.IsNotFound {
			return "no such host"
		}
		if dnsErr.IsTimeout {
			return "the resolver does not answer"
		}
	}
	return "the resolver failed"
}

// connectProblem is a connection error without addresses and URLs.
func connectProblem(err error) string {
	var netErr net.Error
	if errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &netErr) && netErr.Timeout()) {
		return "no answer in time"
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return clean(operation.Err.Error(), 120)
	}
	return clean(withoutURL(err).Error(), 120)
}
