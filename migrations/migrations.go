// Package migrations embeds the SQL of the control schema, ingest. The files are named NNNN_name.sql, run in order, each
// in one transaction, and are never edited once released.
package migrations

import "embed"

// FS holds the migration files.
//
//go:embed *.sql
var FS embed.FS
