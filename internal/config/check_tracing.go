package config

import (
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// LogAuto is the log.format that looks where the log goes.
const LogAuto = "auto"

// tracingHeaders are those of a request to the collector that ingestd or HTTP sets.
var tracingHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Host", "Transfer-Encoding"}

// tracing checks where traces are sent.
func (c checker) tracing(t Tracing) {
	if t.Endpoint != "" {
		u, err := url.Parse(t.Endpoint)
		switch {
		case err == nil && u.Scheme == "http" && len(t.Headers) == 0: // spans hold no secret
			u.Scheme = "https"
			c.url("endpoint", u.String(), "http://127.0.0.1:4318", false)
		default:
			c.url("endpoint", t.Endpoint, "http://127.0.0.1:4318", false)
		}
	}
	for name, value := range t.Headers {
		key := join("headers", name)
		_, _, reference := Secret(value).reference()
		switch {
		case !headerName.MatchString(name):
			c.at("headers", "%s is not the name of a header", excerpt(name))
		case slices.Contains(tracingHeaders, textproto.CanonicalMIMEHeaderKey(name)):
			c.at(key, "is set by ingestd itself: expected another header")
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			c.at(key, "its value holds a control character: expected one line of text")
		case reference:
			c.reference(key, Secret(value))
		}
	}
}
