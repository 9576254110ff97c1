// Package ops is what an ops team sees of a running ingestd: health, metrics and the state of the payers, over the admin
// listener. It reads the store and asks the scheduler; it changes nothing by itself.
package ops
