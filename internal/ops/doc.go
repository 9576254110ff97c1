// Package ops is what an ops team sees of a running ingestd: health, metrics and the state of the payers, over the admin
// listener; and what operators may change: Direct does it on the database, the admin API by Direct, and Client by the admin API.
package ops
