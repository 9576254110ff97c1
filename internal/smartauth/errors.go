package smartauth

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrClosed is returned for a token that would have to be fetched after the Manager has ended.
var ErrClosed = errors.New("the token manager has stopped")

// The codes of errors that no OAuth server names: what was met on the way to it, or in its answer.
const (
	CodeNetwork         = "network"          // the server could not be reached, or the connection broke
	CodeTimeout         = "timeout"          // no answer in time
	CodeServerError     = "server_error"     // 5xx
	CodeRateLimited     = "rate_limited"     // 429
	CodeRedirected      = "redirected"       // the token endpoint answered with a redirect, which is not followed
	CodeEndpointMissing = "endpoint_missing" // 404, 405 or 410 at the token endpoint
	CodeBadResponse     = "bad_response"     // an answer that is no token response and no error of OAuth's
	CodeRejected        = "rejected"         // 4xx without an OAuth error
	CodeClockSkew       = "clock_skew"       // refused, and the clocks differ by more than an assertion can bear
	CodeDiscovery       = "discovery_failed" // no source named a token endpoint
	CodeForeignEndpoint = "foreign_endpoint" // discovery named an endpoint elsewhere, for a client id that is used at another payer
	CodeCredential      = "credential"       // the client secret cannot be had, or the key cannot sign
	CodeScopeMissing    = "scope_missing"    // a token was issued, for fewer resource types than are needed
)

// Error is why there is no token. Its text is fit for logs: it holds no token, assertion, secret or query string.
type Error struct {
	// Code is an OAuth error code (RFC 6749 section 5.2), or one of the Code constants.
	Code string
	// Description is what the server said, shortened and cleaned.
	Description string
	// Hint tells an operator what to look at first.
	Hint string
	// Payer is the registration's name, Host the server that was asked.
	Payer, Host string
	// Status is the HTTP status, 0 where there was none.
	Status int
	// RetryAfter is how long nothing should be tried: what the server asked for, or the manager's own pause. 0: now.
	RetryAfter time.Duration
	// Temporary: the same request may succeed later without anybody changing anything.
	Temporary bool

	// rediscover: the endpoint may have moved.
	rediscover bool
	cause      error
}

// Error says which server refused, with which code, and what it said.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Code == CodeScopeMissing {
		b.WriteString("no sufficient access token")
	} else {
		b.WriteString("no access token")
	}
	if e.Payer != "" {
		b.WriteString(" for " + e.Payer)
	}
	if e.Host != "" {
		b.WriteString(" from " + e.Host)
	}
	b.WriteString(": " + e.Code)
	if e.Status != 0 {
		b.WriteString(" (HTTP " + strconv.Itoa(e.Status) + ")")
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	return b.String()
}

// Unwrap returns the error below, where there is one.
func (e *Error) Unwrap() error { return e.cause }

// in returns a copy for another caller, with the pause that is left.
func (e *Error) in(pause time.Duration) *Error {
	c := *e
	c.RetryAfter = max(pause, 0)
	return &c
}

// authFault reports whether the server refused who asks or what is asked: one more try with a new assertion is worth it,
// then it takes an operator.
func (e *Error) authFault() bool { return !e.Temporary && e.Status >= 400 && e.Status < 500 }

// keyFault reports whether another key of the client may be accepted where this one was not.
func (e *Error) keyFault() bool {
	switch e.Code {
	case "invalid_client", "invalid_grant", "invalid_request", "unauthorized_client", CodeRejected:
		return true
	}
	return e.Status == http.StatusUnauthorized
}

// hints by code: the operator's first step. Codes that are not listed get the one of CodeRejected.
var hints = map[string]string{
	"invalid_client": "The server does not accept this client: check that client_id is as registered, that the public key is registered" +
		" (ingestd keys jwks prints it) under the same kid, that the JWKS URL is reachable from outside, and that audience is the token" +
		" URL that the payer expects.",
	"invalid_grant": "The server refused the assertion: check audience and the clock first, then the registered key.",
	"invalid_request": "The server found the request malformed: check audience and auth.method; some servers say so of an assertion that they" +
		" cannot verify.",
	"invalid_scope": "The server does not grant these scopes: ask the payer which system/ scopes are registered, and set auth.scopes to" +
		" them, or take the types out of export.types.",
	"unauthorized_client": "The client is known but may not use client_credentials, or is not active yet: ask the payer to enable" +
		" Backend Services for it.",
	"unsupported_grant_type": "The token endpoint does not know client_credentials: check token_url.",
	CodeNetwork:              "Check DNS, firewall and TLS: ingestd doctor tells them apart.",
	CodeTimeout:              "The server did not answer in time; ingestd goes on trying.",
	CodeServerError:          "The payer's authorization server fails; ingestd goes on trying. Tell the payer if it lasts.",
	CodeRateLimited:          "The authorization server limits requests; ingestd waits as long as it asks.",
	CodeRedirected: "The token endpoint redirects, and an assertion is meant for one address only: if the" +
		" new one is right, set token_url to it.",
	CodeEndpointMissing: "There is no token endpoint at this address: check token_url, or fhir_url if it was discovered.",
	CodeBadResponse: "The answer is not a token response: check that token_url is the token endpoint, and no" +
		" login page or proxy answers.",
	CodeRejected: "The server refused without an OAuth error: check client_id, key and audience, and ask the" +
		" payer for its log.",
	CodeClockSkew: "The clocks of this machine and the server differ too much for an assertion to be valid: check NTP here.",
	CodeDiscovery: "Set auth.token_url, or ask the payer for a token endpoint: neither .well-known/smart-configuration nor the" +
		" CapabilityStatement named one.",
	CodeForeignEndpoint: "Set auth.token_url to this payer's token endpoint, as the payer told it: its server names one on another host, and" +
		" with a client id that another payer has given as well, that could be the other one's.",
	CodeScopeMissing: "The server grants less than is to be exported: ask the payer to grant the system/ scopes of these types, or take" +
		" the types out of export.types.",
	CodeCredential: "Check the client_secret reference, or that the key can sign (permissions of its KMS).",
}

func hintFor(code string) string {
	if hint, ok := hints[code]; ok {
		return hint
	}
	return hints[CodeRejected]
}

// Codes are the codes of an Error that have a name of their own: OAuth's, and the Code constants. A server may make up others.
func Codes() []string { return slices.Sorted(maps.Keys(hints)) }

// metricCode is code as a label: of a bounded set, whatever a server answers.
func metricCode(code string) string {
	if _, ok := hints[code]; ok {
		return code
	}
	return "other"
}

// maxRetryAfter bounds how long a server's Retry-After is believed.
const maxRetryAfter = 6 * time.Hour

// parseRetryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date, which is taken against the server's own
// Date where it sends one. 0 if there is none or it makes no sense.
func parseRetryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if !(seconds > 0) { // also NaN
			return 0
		}
		return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// configError is a Registration that cannot work, found before anything is sent.
func configError(payer, format string, args ...any) error {
	return fmt.Errorf("authorization of payer %s: %w", payer, fmt.Errorf(format, args...))
}
