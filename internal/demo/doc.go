// Package demo shows ingestd at work on one machine: a private Postgres, three simulated payers that differ, the daemon on
// a short schedule, and two rounds of exports, each compared row by row with what the payers hold.
//
// Everything but the payers is what an operator would run: a configuration file, key files, and the daemon by them.
package demo
