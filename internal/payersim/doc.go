// Package payersim is a simulated payer: an HTTP handler that speaks SMART Backend Services and FHIR Bulk Data as the
// strictest servers do, and that refuses whatever the strictest of them refuses.
//
// It exists to find out whether a client is right, so it is not friendly. An assertion is good for one request ever,
// its audience is compared byte for byte, a poll before its time is answered 429, an unknown parameter is an error that
// names it. What it refuses, it explains in the answer: an OAuth error for the token endpoint, an OperationOutcome
// elsewhere.
//
// # Flow
//
// A request passes the router (server.go). The token endpoint (token.go) checks the form, then the assertion
// (assertion.go) against the client's registered keys (jwks.go), then cuts the scopes to what the client was granted
// (scope.go), and hands out an opaque token (bearer.go). Every call under the FHIR base but discovery presents it. A
// kick-off (kickoff.go, params.go) becomes a job (job.go); its status (status.go) ends in a manifest; the manifest's
// files (file.go) are written while they are read, so that memory does not grow with the data.
//
// # Data
//
// What the payer holds comes from a source: a folder of NDJSON, served byte for byte (folder.go, scan.go), or a seeded
// generator of claims data (generator.go decides what lives, render*.go writes it). The generator's data are a pure
// function of seed and round. Each kick-off after the first starts a new round in which a share of the resources is
// new, changed or gone; any round can be asked for again at any time, so the truth (sim.go) is there to compare an
// ingest with, in process by [Server.Truth] and over HTTP under /_sim.
//
// # Invariants
//
//   - Nothing outlives a request: the package starts no goroutine.
//   - Two exports with the same instant never exist: transactionTime strictly grows, so "later than _since" means exactly
//     what the earlier export did not hold.
//   - A file's bytes do not depend on when or how often it is read.
//   - /_sim is not part of the payer: it asks for no token and no fault touches it.
//
// Specifications: SMART App Launch 2.2 "Backend Services" and "Client Authentication: Asymmetric"; Bulk Data Access IG
// 3.0.
package payersim
