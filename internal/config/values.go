package config

// Size is a number of bytes, written with a unit in the file: 512KiB, 64MiB, 1GiB, or a plain number of bytes.
type Size int64

// Secret is a reference to a secret (env:NAME, file:/path, credential:NAME, …), never the secret itself. It is safe to
// print: only Resolve yields the value.
type Secret string
