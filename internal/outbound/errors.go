package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// The codes of Error. They are stable: runbooks and alerts refer to them.
const (
	CodeAddressRefused   = "address_refused"
	CodePlainHTTP        = "plain_http_refused"
	CodeScheme           = "scheme_refused"
	CodeDNS              = "dns_failed"
	CodeRefused          = "connection_refused"
	CodeReset            = "connection_reset"
	CodeTimeout          = "connection_timeout"
	CodeConnection       = "connection_failed"
	CodeTLSVersion       = "tls_version"
	CodeTLSExpired       = "tls_certificate_expired"
	CodeTLSNotYetValid   = "tls_certificate_not_yet_valid"
	CodeTLSSelfSigned    = "tls_certificate_self_signed"
	CodeTLSWrongName     = "tls_certificate_wrong_name"
	CodeTLSIntermediate  = "tls_intermediate_missing"
	CodeTLSUnknownCA     = "tls_unknown_authority"
	CodeTLSClient        = "tls_client_certificate_refused"
	CodeTLS              = "tls_failed"
	CodePlainHTTPAnswers = "tls_not_spoken"
)

// Error says why no response came from a host.
type Error struct {
	// Code is one of the Code constants.
	Code string
	// Host is the host without its port.
	Host string
	// Detail is the cause in words, Hint what to do about it; both are safe to log.
	Detail string
	Hint   string
	// Unsent is true if the request cannot have reached the host, because no connection stood.
	Unsent bool
	Err    error
}

func (e *Error) Error() string { return e.Host + ": " + e.Detail }

// Words is what an error of net/http, net or crypto/tls says, up to where it quotes what a server sent: a header that is none may
// be the rest of a body (PHI), and an address may be signed.
func Words(err error) string {
	text, _, quotes := strings.Cut(err.Error(), `"`)
	if quotes {
		text = strings.TrimRight(text, " :;[{(=") + " (what was sent is not repeated)"
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether trying again cannot help before the configuration, or what the payer names, changes.
func (e *Error) Permanent() bool {
	return e.Code == CodeAddressRefused || e.Code == CodePlainHTTP || e.Code == CodeScheme
}

// explain turns an error of net/http, net or crypto/tls into an *Error. certificateAsked says that the server asked for a
// client certificate.
func explain(host string, err error, certificateAsked bool) error {
	e := &Error{Host: host, Err: err}
	e.explain()
	if certificateAsked && (e.Code == CodeReset || e.Code == CodeTLS || e.Code == CodeConnection) {
		e.Code, e.Detail = CodeTLSClient, "the server asks for a client certificate, and ended the connection"
		e.Hint = clientCertificateHint
	}
	return e
}

const clientCertificateHint = "check tls.client_certificate and tls.client_key, and whether the payer knows them"

func (e *Error) explain() {
	err := e.Err
	if refused, ok := errors.AsType[*refusal](err); ok {
		e.Code, e.Detail, e.Unsent = CodeAddressRefused, "refused to connect: "+refused.reason, true
		e.Hint = "if this host is meant, list it under the payer's download_hosts"
		return
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		e.Code, e.Unsent = CodeDNS, true
		e.Detail, e.Hint = "the name cannot be resolved", "check the resolver and the network"
		if dns.IsNotFound {
			e.Detail, e.Hint = "no such host", "check the host's spelling, and that this machine's DNS knows it"
		}
		return
	}
	if e.explainTLS() {
		e.Unsent = true
		return
	}
	var op *net.OpError
	e.Unsent = errors.As(err, &op) && op.Op == "dial"
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Code, e.Detail, e.Unsent = CodeRefused, "connection refused", true
		e.Hint = "nothing listens at that port, or a firewall rejects it"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF):
		e.Code, e.Detail = CodeReset, "the connection was closed before a response came"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		e.Code, e.Detail = CodeTimeout, "no response in time"
		if e.Unsent {
			e.Detail, e.Hint = "no connection in time", "check routes and firewalls"
		}
	default:
		e.Code, e.Detail = CodeConnection, "the connection failed: "+Words(err)
	}
}

// explainTLS fills e from a failed TLS handshake and reports whether it was one (protocol.md DISC-6).
func (e *Error) explainTLS() bool {
	var (
		verification *tls.CertificateVerificationError
		name         x509.HostnameError
		invalid      x509.CertificateInvalidError
		unknown      x509.UnknownAuthorityError
		record       tls.RecordHeaderError
	)
	switch {
	case errors.As(e.Err, &name):
		e.Code, e.Detail = CodeTLSWrongName, "the certificate is for another name"
		e.Hint = "check the host in the URL against the certificate's names"
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired:
		e.explainDates(invalid.Cert)
	case errors.As(e.Err, &unknown):
		var chain []*x509.Certificate
		if errors.As(e.Err, &verification) {
			chain = verification.UnverifiedCertificates
		}
		e.explainChain(chain)
	case errors.As(e.Err, &verification):
		e.Code, e.Detail = CodeTLS, "the certificate is not valid: "+Words(verification.Err)
	case errors.As(e.Err, &record):
		e.Code, e.Detail = CodePlainHTTPAnswers, "the server does not speak TLS at that port"
		e.Hint = "check the port of the URL"
	default:
		return e.explainAlert()
	}
	return true
}

func (e *Error) explainDates(certificate *x509.Certificate) {
	if time.Now().Before(certificate.NotBefore) {
		e.Code = CodeTLSNotYetValid
		e.Detail = "the certificate is not valid before " + certificate.NotBefore.UTC().Format(time.RFC3339)
		e.Hint = "check this machine's clock"
		return
	}
	e.Code = CodeTLSExpired
	e.Detail = "the certificate expired at " + certificate.NotAfter.UTC().Format(time.RFC3339)
	e.Hint = "the payer has to renew its certificate; check this machine's clock too"
}

// explainChain tells apart why the chain that the server sent ends at no known authority.
func (e *Error) explainChain(chain []*x509.Certificate) {
	if len(chain) == 0 {
		e.Code, e.Detail = CodeTLSUnknownCA, "the certificate is signed by an unknown authority"
		e.Hint = "if the payer has a CA of its own, set tls.ca_file"
		return
	}
	last := chain[len(chain)-1]
	selfSigned := string(last.RawIssuer) == string(last.RawSubject)
	switch {
	case selfSigned && len(chain) == 1:
		e.Code, e.Detail = CodeTLSSelfSigned, "the certificate is self-signed"
		e.Hint = "if it is the right one, set tls.ca_file to it"
	case selfSigned:
		e.Code, e.Detail = CodeTLSUnknownCA, "the certificate chain ends at an unknown authority"
		e.Hint = "if the payer has a CA of its own, set tls.ca_file"
	default:
		e.Code, e.Detail = CodeTLSIntermediate, "the certificate's issuer is neither known nor sent along"
		e.Hint = "the payer has to send its intermediate certificates; if it has a CA of its own, set tls.ca_file"
	}
}

// explainAlert recognises the alerts by which a server ends a handshake. crypto/tls has no types for them on TCP.
func (e *Error) explainAlert() bool {
	text := e.Err.Error()
	switch {
	case strings.Contains(text, "protocol version not supported"),
		strings.Contains(text, "server selected unsupported protocol version"),
		strings.Contains(text, "no supported versions satisfy"):
		e.Code, e.Detail = CodeTLSVersion, "the server does not offer TLS 1.2 or newer, or not tls.min_version"
		e.Hint = "the payer has to enable TLS 1.2 or 1.3; check tls.min_version"
	case strings.Contains(text, "remote error: tls: bad certificate"),
		strings.Contains(text, "remote error: tls: certificate required"),
		strings.Contains(text, "remote error: tls: unknown certificate"),
		strings.Contains(text, "remote error: tls: expired certificate"),
		strings.Contains(text, "remote error: tls: access denied"):
		e.Code, e.Detail = CodeTLSClient, "the server refused the client certificate, or its absence"
		e.Hint = clientCertificateHint
	case strings.Contains(text, "tls: "):
		e.Code, e.Detail = CodeTLS, "the TLS handshake failed: "+Words(e.Err)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		e.Code, e.Detail = CodePlainHTTPAnswers, "the server does not speak TLS at that port"
		e.Hint = "check the port of the URL"
	default:
		return false
	}
	return true
}
