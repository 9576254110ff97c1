// Package scheduler runs exports: it joins the payer's client (package export) with the database (package store) in a
// chain of jobs on River, the job engine, so that any number of instances can work on one database.
//
// One file a job; read in this order they are the product's story:
//
//	tick.go            look what is due (timetable.go decides): record an export
//	start_export.go    kick-off at the payer
//	poll_export.go     ask until the manifest is there; one load_file a file
//	load_file.go       stream a file into staging; the last one brings the publish
//	publish_export.go  make the export visible
//	clean_up.go        DELETE at the payer, drop what is left of staging
//	build_indexes.go   build the indexes that the configuration lists
//	reap.go            enqueue again what a dead instance left behind
//	prune.go           delete what is kept no longer
//	notify.go          tell webhooks what failed, is held or stale, and what has recovered
//
// Every job ends in one transaction that holds its change of state, the next job and its own completion, so a crash
// between two jobs cannot happen. Every job takes an advisory lock on its export or file and looks at the state again
// before it acts, so running one twice, at the same time or later, does no harm.
package scheduler
