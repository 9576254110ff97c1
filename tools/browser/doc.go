// Package browser drives the status page in a real browser: the binary, simulated payers, Postgres and Chromium. It has a module of its
// own, so that its dependencies are not the product's.
package browser
