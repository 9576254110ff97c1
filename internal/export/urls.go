package export

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"ingestd/internal/config"
)

// hostPort is how hosts are compared: with the port, which the scheme implies where it is not written.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(config.ComparableHost(u.Hostname()), port)
}

// sameOrigin compares scheme, host and port (USE-5).
func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && hostPort(a) == hostPort(b) }

// atBase reports whether u lies at the FHIR base's origin.
func (c *Client) atBase(u *url.URL) bool { return sameOrigin(u, c.base) }

// mayHaveToken reports whether the access token may be sent to u.
func (c *Client) mayHaveToken(u *url.URL) bool {
	return c.atBase(u) || c.tokenHosts[hostPort(u)]
}

// resolve reads a URL that the payer sent, relative to at, and checks it: https (http on loopback only, and raised to
// https on the FHIR base's own host, whose server may not know that TLS ends in front of it), no user information
// (MAN-4, KICK-6). Private addresses are refused when they are dialled. The error never quotes the URL.
func (c *Client) resolve(at *url.URL, text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, errors.New("the URL is empty")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the URL cannot be read")
	}
	u = at.ResolveReference(u)
	u.Fragment, u.RawFragment = "", ""
	if u.Scheme == "http" && c.base.Scheme == "https" && strings.EqualFold(u.Hostname(), c.base.Hostname()) {
		u.Scheme, u.Host = c.base.Scheme, c.base.Host
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the URL is not https")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("the URL names no host")
	case u.User != nil:
		return nil, errors.New("the URL holds user information")
	case u.Scheme == "http" && !config.IsLoopbackHost(u.Hostname()):
		return nil, errors.New("the URL is plain http at " + u.Hostname())
	}
	return u, nil
}
