package smartauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	wellKnownPath = "/.well-known/smart-configuration"
	oauthURIs     = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
	// maxCapability bounds a CapabilityStatement: those of full servers have megabytes.
	maxCapability = 16 << 20
)

// Discovery is what a FHIR server says of its authorization server. Only TokenEndpoint is needed; the rest are hints, since
// servers declare less than they do (SMART App Launch 2.2, Conformance).
type Discovery struct {
	// Source is where it was found: "token_url" (configured), "smart-configuration" or "CapabilityStatement".
	Source        string
	TokenEndpoint string
	Issuer        string
	JWKSURI       string
	AuthMethods   []string // token_endpoint_auth_methods_supported
	Algorithms    []string // token_endpoint_auth_signing_alg_values_supported
	Scopes        []string // scopes_supported
	Capabilities  []string
	// Warnings say what does not fit the registration; none of them stops anything.
	Warnings []string

	// instead is why the well-known document could not be read now, where this was found in its place.
	instead *unreadError
}

// scopeSyntax is v2 only where it is declared and v1 is not, and v1 else; scopes_supported decides where neither is declared.
func (d *Discovery) scopeSyntax() scopeSyntax {
	v1, v2 := slices.Contains(d.Capabilities, "permission-v1"), slices.Contains(d.Capabilities, "permission-v2")
	if !v1 && !v2 {
		for _, text := range d.Scopes {
			_, permissions, _ := strings.Cut(text, ".")
			switch permissions {
			case "read", "write", "*":
				v1 = true
			case "rs", "cruds", "r", "s":
				v2 = true
			}
		}
	}
	if v2 && !v1 {
		return scopesV2
	}
	return scopesV1
}

// discoveryClient reads the documents of one FHIR server, without authorization.
type discoveryClient struct {
	base      *url.URL
	transport http.RoundTripper
	headers   map[string]string
	timeout   time.Duration
	skew      *clockSkew
}

// discover asks the well-known document, then the CapabilityStatement. The error is typed, and temporary where a source
// could not be asked rather than had no answer.
func (c discoveryClient) discover(ctx context.Context, payer string) (*Discovery, *Error) {
	found, wellKnownErr := c.wellKnown(ctx)
	if wellKnownErr == nil {
		return found, nil
	}
	found, capabilityErr := c.capability(ctx)
	if capabilityErr == nil {
		found.instead, _ = errors.AsType[*unreadError](wellKnownErr)
		return found, nil
	}
	e := &Error{
		Code: CodeDiscovery, Hint: hintFor(CodeDiscovery), Payer: payer, Host: c.base.Host,
		cause: fmt.Errorf("no token endpoint: token_url is not set; smart-configuration: %w; CapabilityStatement: %w",
			wellKnownErr, capabilityErr),
	}
	for _, err := range []error{wellKnownErr, capabilityErr} {
		if unread, ok := errors.AsType[*unreadError](err); ok {
			e.Temporary = true
			e.RetryAfter = max(e.RetryAfter, unread.retryAfter)
		}
	}
	return nil, e
}

// unreadError is a document that may be there, but could not be read now.
type unreadError struct {
	err        error
	retryAfter time.Duration
}

func (e *unreadError) Error() string { return e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

func (c discoveryClient) wellKnown(ctx context.Context) (*Discovery, error) {
	body, err := c.get(ctx, wellKnownPath, "application/json", maxResponse)
	if err != nil {
		return nil, err
	}
	return parseSMARTConfiguration(body, c.base)
}

func (c discoveryClient) capability(ctx context.Context) (*Discovery, error) {
	body, err := c.get(ctx, "/metadata", "application/fhir+json", maxCapability)
	if err != nil {
		return nil, err
	}
	return parseCapability(body, c.base)
}

// get reads a document below the base's own path. The content type is not looked at: servers send JSON under any.
func (c discoveryClient) get(ctx context.Context, path, accept string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	target := *c.base
	target.Path += path
	if target.RawPath != "" {
		target.RawPath += path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("the FHIR base cannot be requested")
	}
	request.Header.Set("Accept", accept)
	home := originOf(c.base)
	headersFor(request, home, c.headers)
	client := http.Client{Transport: c.transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) >= 5 {
			return errors.New("more than 5 redirects")
		}
		if err := checkEndpoint(next.URL); err != nil {
			return fmt.Errorf("a redirect leads to an address that cannot be used: %w", err)
		}
		headersFor(next, home, c.headers)
		return nil
	}}
	sent := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return nil, &unreadError{err: withoutURL(err)}
	}
	defer func() { _ = response.Body.Close() }()
	received := time.Now()
	if originOf(response.Request.URL) == home {
		c.skew.observe(response.Header, sent, received)
	}
	if response.StatusCode != http.StatusOK {
		err := fmt.Errorf("HTTP %d", response.StatusCode)
		switch status := response.StatusCode; {
		case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
			return nil, &unreadError{err: err, retryAfter: parseRetryAfter(response.Header, received)}
		}
		return nil, err
	}
	body, err := readAnswer(response.Body, limit)
	if errors.Is(err, errTooLong) {
		return nil, fmt.Errorf("the document is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, &unreadError{err: withoutURL(err)}
	}
	return body, nil
}

// parseSMARTConfiguration reads the well-known document. Members of an unexpected type count as absent.
func parseSMARTConfiguration(body []byte, base *url.URL) (*Discovery, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, errors.New("the document is not a JSON object")
	}
	endpoint, ok := jsonString(fields["token_endpoint"])
	if !ok || endpoint == "" {
		return nil, errors.New("the document has no token_endpoint")
	}
	resolved, err := resolveEndpoint(base, endpoint)
	if err != nil {
		return nil, fmt.Errorf("token_endpoint cannot be used: %w", err)
	}
	d := &Discovery{
		Source:        "smart-configuration",
		TokenEndpoint: resolved,
		AuthMethods:   jsonStrings(fields["token_endpoint_auth_methods_supported"]),
		Algorithms:    jsonStrings(fields["token_endpoint_auth_signing_alg_values_supported"]),
		Scopes:        jsonStrings(fields["scopes_supported"]),
		Capabilities:  jsonStrings(fields["capabilities"]),
	}
	d.Issuer, _ = jsonString(fields["issuer"])
	d.JWKSURI, _ = jsonString(fields["jwks_uri"])
	return d, nil
}

// parseCapability reads the oauth-uris extension of a CapabilityStatement: deprecated, and all that some payers publish.
func parseCapability(body []byte, base *url.URL) (*Discovery, error) {
	type extension struct {
		URL      string          `json:"url"`
		ValueURI json.RawMessage `json:"valueUri"`
	}
	var statement struct {
		Rest []struct {
			Security struct {
				Extension []struct {
					URL       string      `json:"url"`
					Extension []extension `json:"extension"`
				} `json:"extension"`
			} `json:"security"`
		} `json:"rest"`
	}
	if err := json.Unmarshal(body, &statement); err != nil {
		return nil, errors.New("the document is not a CapabilityStatement in JSON")
	}
	for _, rest := range statement.Rest {
		for _, outer := range rest.Security.Extension {
			if outer.URL != oauthURIs {
				continue
			}
			for _, inner := range outer.Extension {
				endpoint, ok := jsonString(inner.ValueURI)
				if inner.URL != "token" || !ok {
					continue
				}
				resolved, err := resolveEndpoint(base, endpoint)
				if err != nil {
					return nil, fmt.Errorf("its token endpoint cannot be used: %w", err)
				}
				return &Discovery{Source: "CapabilityStatement", TokenEndpoint: resolved}, nil
			}
		}
	}
	return nil, errors.New("it has no oauth-uris extension with a token endpoint")
}

// resolveEndpoint resolves an endpoint against the FHIR base, as a folder, and demands what parseEndpoint does. An absolute
// URL stays as it is to the byte, because it becomes the assertion's audience.
func resolveEndpoint(base *url.URL, endpoint string) (string, error) {
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return "", errors.New("it is not a URL")
	}
	if !parsed.IsAbs() {
		folder := *base
		folder.Path += "/"
		if folder.RawPath != "" {
			folder.RawPath += "/"
		}
		parsed = folder.ResolveReference(parsed)
		endpoint = parsed.String()
	}
	if err := checkEndpoint(parsed); err != nil {
		return "", err
	}
	return endpoint, nil
}

// warnings compares what a server declares with the registration.
func (d *Discovery) warnings(r *Registration) []string {
	var warnings []string
	if len(d.AuthMethods) > 0 && !slices.Contains(d.AuthMethods, r.Method) {
		warnings = append(warnings, "the server does not list the method "+r.Method)
	}
	if r.Method == MethodPrivateKeyJWT {
		if d.Source == "smart-configuration" && len(d.AuthMethods) == 0 {
			warnings = append(warnings, "the server does not say which methods of client authentication it takes")
		}
		keys := r.signing()
		if len(keys) == 0 {
			return warnings
		}
		key := keys[0]
		if alg := algorithmFor(key, d.Algorithms); len(d.Algorithms) > 0 && !slices.Contains(d.Algorithms, alg.name) {
			warnings = append(warnings, fmt.Sprintf("the server lists the algorithms %s, and key %q signs %s",
				clean(strings.Join(d.Algorithms, ", "), 100), key.id, alg.name))
		}
	}
	return warnings
}

// algorithmFor is the algorithm that a key signs by at a server that lists these: the key's own, unless it was not chosen by
// anybody and the list has another that fits.
func algorithmFor(key *Key, listed []string) algorithm {
	if key.chosen || len(listed) == 0 || slices.Contains(listed, key.algorithm.name) {
		return key.algorithm
	}
	for _, a := range algorithms {
		if slices.Contains(listed, a.name) && a.fits(key.signer.Public()) {
			return a
		}
	}
	return key.algorithm
}
