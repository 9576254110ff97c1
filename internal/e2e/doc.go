// Package e2e holds the end-to-end tests: they build the binary, start it as an operator would, against a real Postgres
// and simulated payers, and compare what stands in the tables with what the payers hold.
package e2e
