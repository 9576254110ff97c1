// Package daemon puts the parts of ingestd together for one configuration: the database (embedded or not), the token
// manager, a client for each payer, the job engine and the admin listener. serve runs all of it; run, demo and the
// commands that only look use the parts that they need.
package daemon
