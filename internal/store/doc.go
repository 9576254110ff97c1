// Package store keeps what ingestd knows and loads in Postgres: the control data of exports (schema ingest), the staging
// tables that files are copied into (ingest_stage), the published resource tables (database.schema, fhir by default) and
// their history.
//
// The flow, in the order of the files:
//
//	export.go, file.go    the rows that say what runs, and the transitions between their states
//	stage.go, copy.go     a file's lines go into staging tables, in chunks that commit with their checkpoint
//	prepare.go            one winner per id, indexes: all that can be done before anybody sees the export
//	publish.go            one transaction makes the whole export visible: attach or merge, deletes, ghosts, watermark
//
// Invariants:
//
//   - A chunk and its checkpoint commit together; the checkpoint moves only from the position that the chunk began at.
//   - An export becomes visible in one transaction or not at all, and only if its ledger balances.
//   - Functions with the suffix Tx take part in the caller's transaction, so that a change of state and the job that goes
//     on from there are committed together.
//   - Identifiers come from the list of resource types and from the configuration, never from a payer, and are quoted.
package store
