// Package bench measures ingestd beside what it is compared with, in one run and in alternation, against one Postgres:
//
//   - psql: `\copy` of rows that are ready, into tables like ours, over as many connections. That is the limit.
//   - script: what a user would write instead: curl --compressed to disk, then jq and `psql \copy` into a table.
//   - ingestd: `ingestd run` end to end, over HTTP from a simulated payer, plain and gzip; then again with nothing
//     changed, and with 1 % changed.
//
// Every contender is a process of its own, so that its CPU time and its memory can be told apart. A figure is the median of
// the alternations; ratios are taken within an alternation, so that a machine that slows down slows all down.
//
// Read bench.go first: one round is in Run; contenders are in ingestd.go and rivals.go, the payer in payer.go, the
// clocks in process.go, the data in data.go, and what comes out in report.go and plot.go.
package bench
