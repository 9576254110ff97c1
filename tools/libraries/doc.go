// Package libraries measures the libraries that could do what the loader spends its time on: JSON, gzip and the two formats of COPY.
// It has a module of its own, so that what was not chosen is not a dependency of the product. `make libraries` runs it; the choice
// stands in docs/adr/0010-json-gzip-and-copy.md.
package libraries
