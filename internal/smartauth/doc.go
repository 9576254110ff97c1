// Package smartauth is the client side of SMART Backend Services authorization (SMART App Launch 2.2): it holds the
// private keys, publishes the public ones, and sees to it that every request to a payer carries a live access token.
//
// # Flow
//
//		Key ──► assertion ──► token request ──► Token ──► Transport ──► payer
//		            ▲               ▲                         │
//		       clock skew       discovery                401: refresh once, replay once
//
//	  - [ParseKey] and [GenerateKey] give a [Key]; [NewJWKS] prints its public half for registration at a payer.
//	  - A [Registration] describes one client at one authorization server. [Manager.Source] checks it and returns a [Source].
//	  - [Source.Token] returns a live token; [Source.Transport] adds it to requests.
//
// # Invariants
//
//   - There is one token per client id, token endpoint and scopes in a process, however many sources ask for it, and one
//     request for it at a time (single flight).
//   - A live token is used while its successor is fetched; a caller waits only when no token is live, and is told of a
//     failure only when no token could be had.
//   - Every attempt that reaches the network signs a new assertion with a new jti. No HTTP layer may send one again:
//     requests to the token endpoint have no GetBody.
//   - A token, an assertion, a client secret and a private key never appear in an error, a log line or a dump: their types
//     redact themselves. A token goes to the FHIR server's own origin and to origins that are listed, to no other.
//   - What a payer sends is read up to a limit, and is data: it selects among known cases, and never becomes a metric label
//     or a file name.
//
// The package knows HTTP and JOSE, and nothing of exports or SQL. Assertions are built by golang-jwt, and signed by any
// [crypto.Signer], so that a key may live in a KMS; the tests verify the result with another JOSE library.
package smartauth
