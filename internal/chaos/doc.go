// Package chaos lets ingestd live through bad luck, and proves that nothing came of it. Several instances of the real binary
// ingest from simulated payers whose data change and who misbehave, while processes, connections and Postgres are killed,
// stopped and cut off at random. Then all is left in peace, and everything is compared: the tables with what the payers hold,
// the ledgers with themselves, and all that was printed with what must never be.
//
// One seed gives one plan: the same troubles for the same victims at the same times. What happens to be running when they
// strike is up to the machine, so that a second run meets other interleavings of the same plan.
//
//	plan.go      what is going to happen, by the seed
//	trouble.go   how it is done
//	payer.go     a simulated payer, and the witness before it
//	witness.go   the secrets and the patients' data that must be seen nowhere
//	instance.go  a running ingestd
//	postgres.go  the database and the way to it, which can be cut
//	settle.go    the quiet after it
//	check.go     what must hold then
//	soak.go      the same world without any trouble, for long
//	measure.go   what it holds meanwhile
//	series.go    whether that rises
//	plot.go      how that looks
package chaos
