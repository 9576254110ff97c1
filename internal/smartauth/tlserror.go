package smartauth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"time"
)

// explainTLS says what is wrong with a server's TLS, and what to do; problem is empty for errors of another kind.
func explainTLS(err error) (problem, fix string) {
	var verification *tls.CertificateVerificationError
	var chain []*x509.Certificate
	if errors.As(err, &verification) {
		chain = verification.UnverifiedCertificates
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is for another name (" + certificateNames(name.Certificate) + ")",
			"Check the host in the URL; if it is right, the server needs a certificate for it."
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		if now := time.Now(); invalid.Cert != nil && now.Before(invalid.Cert.NotBefore) {
			return "the certificate is valid only from " + invalid.Cert.NotBefore.UTC().Format(time.DateOnly) + " on",
				"Check the clock of this machine; else the server's certificate was installed too early."
		}
		return "the certificate has expired" + expiryOf(invalid.Cert), "The owner of the server has to renew the certificate."
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		switch {
		case len(chain) > 0 && selfSigned(chain[0]):
			return "the certificate is self-signed",
				"The server needs a certificate of a public authority; for one of your own, set tls.ca_file."
		case len(chain) == 1:
			return "the certificate's issuer is unknown, and the server sent no intermediate certificate",
				"The server must send its whole chain; for a private authority, set tls.ca_file."
		default:
			return "the certificate's authority is unknown",
				"For a private authority, set tls.ca_file; else this machine's root certificates may be missing or old."
		}
	}
	if errors.As(err, &invalid) || verification != nil {
		return "the certificate is invalid", "The owner of the server has to replace the certificate."
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the server does not speak TLS on this port", "Check the port and the scheme of the URL."
	}
	var alert tls.AlertError
	if errors.As(err, &alert) || strings.Contains(err.Error(), "tls: ") {
		switch text := err.Error(); {
		case strings.Contains(text, "protocol version"):
			return "the server speaks no TLS version that is allowed (1.2 or newer)",
				"The server has to offer TLS 1.2; older versions are not secure."
		case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"),
			strings.Contains(text, "unknown certificate"):
			return "the server does not accept this client's certificate",
				"Set tls.client_certificate and tls.client_key to what the payer has registered."
		default:
			return "the TLS handshake failed", "Ask the payer which versions, ciphers and client certificates its server takes."
		}
	}
	return "", ""
}

func selfSigned(certificate *x509.Certificate) bool {
	return bytes.Equal(certificate.RawIssuer, certificate.RawSubject)
}

func certificateNames(certificate *x509.Certificate) string {
	if certificate == nil || len(certificate.DNSNames) == 0 {
		return "no DNS name"
	}
	return clean(strings.Join(certificate.DNSNames[:min(len(certificate.DNSNames), 5)], ", "), 120)
}

func expiryOf(certificate *x509.Certificate) string {
	if certificate == nil {
		return ""
	}
	return " on " + certificate.NotAfter.UTC().Format(time.DateOnly)
}
