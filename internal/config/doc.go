// Package config reads ingestd's configuration: one YAML file, with the files that it includes.
//
// # Flow
//
// [Load] turns text into a checked [Config] in four steps:
//
//  1. read: each file is parsed into YAML nodes, which know their lines (load.go, include.go).
//  2. decode: the nodes are laid over the built-in defaults, and for a payer over the file's defaults, strictly: every key
//     must be known, stand once, and have the type of its field (decode.go, scalar.go).
//  3. check: each value against the bounds of its key (keys.go, bounds.go), then the keys against each other (check.go,
//     check_payer.go, check_export.go).
//  4. the result, or an [Error] with all problems of all files, each with file, line, key, and what was expected.
//
// A configuration is used whole or not at all: Load never returns both a Config and an error.
//
// # One description
//
// The types of types.go mirror the file. What each key means, which values it takes and what they are bounded by stands
// once, in keys.go; the checks, the JSON Schema (schema.go) and the reference in docs/configuration.md follow from it, and
// tests keep them together.
//
// # Secrets
//
// A [Secret] is a reference (env:NAME, file:/path, credential:NAME) and is resolved where it is used, each time, so that a
// rotated secret is found. A secret that is written out is refused, and no message repeats it. Only database.url may be
// written out; it prints without its password.
package config
