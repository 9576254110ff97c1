// Package docs embeds what of the documentation the commands print themselves.
package docs

import _ "embed"

// Runbooks is runbooks.md: a heading of the third level for every alert and every error code.
//
//go:embed runbooks.md
var Runbooks string
