// Package demo shows ingestd at work on one machine: a private Postgres, three simulated payers that differ, the daemon on
// a short schedule, and two rounds of exports, each compared row by row with what the payers hold.
//
// Everything but the payers is what an operator would run: a configuration file, key files, and the daemon by them. Nothing
// is started by hand: the schedule ticks, and the exports follow.
//
// The flow: [Run] makes the directory, starts the payers (payers.go), writes the configuration (configure.go) and opens the
// daemon. While that runs, the rounds are followed (round.go): each export is shown until it is published, and its rows are
// then compared with the payer (check.go), one payer not waiting for another. The tables (report.go) come from what the
// comparison found and from the ledgers of the exports, and the one must agree with the other.
//
// What holds it together: the n-th export of a payer shows round n-1 of the payer's data, and the comparison reads the
// number of published exports and the rows in one snapshot. A tick that comes meanwhile changes neither.
package demo
