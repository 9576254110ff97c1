// Package archtest holds the arrows between the packages. They point down only:
//
//	cmd/ingestd → daemon → ops → scheduler → export, store → smartauth, outbound → config → fhir
//
// export and store do not know each other, the simulated payer is known to its own subcommand, the demo and tests alone,
// and what a package is there to leave to others (SQL, HTTP, files) it does not import. The test reads every file's imports
// and compares them with the tables at its top, which are the place to change when a new arrow is wanted.
//
// It also holds docs/conformance.md to the code: every rule of the wire protocol is listed there with the code that keeps it and
// the tests that carry its number.
package archtest
