// Package outbound makes the connections to payers.
//
// A payer's answers name further addresses: status URLs, output files, next links, redirects. Whoever controls those
// answers must not be able to turn ingestd into a probe of the network that it runs in. The package therefore decides at
// the moment of dialling, by the address that is dialled, so that neither a host name that resolves to a private address
// nor one that resolves differently the second time (DNS rebinding) gets past it:
//
//   - Loopback, private, link-local, carrier-grade NAT, unique-local and other special-purpose addresses are refused,
//     except for the hosts that the configuration names (the FHIR base, token_url, download_hosts) and for addresses of
//     a range in which the FHIR base lies: by the address in the configuration, or by its certificate, because the payer may
//     run the name servers of its base.
//   - Link-local and other addresses where clouds serve instance credentials are reachable only if the configuration names
//     such an address literally.
//   - Plain http is for loopback only. Everything else is TLS 1.2 or newer, fully verified, with the payer's own CA and
//     a client certificate where they are configured.
//
// Timeouts bound every step that ought to be quick: dialling, the TLS handshake, the response header. There is none for a
// whole exchange, because a file may take hours; whoever reads the body bounds its silence.
//
// Failures come back as *Error with a stable code and a hint, so that "certificate expired", "the server does not send
// its intermediate certificate" and "connection refused" are told apart (protocol.md DISC-6, MAN-4, FILE-2).
package outbound
