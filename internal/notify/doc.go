// Package notify tells webhooks what happens to payers: it renders an event for a target, signs and sends it. It knows HTTP,
// and no SQL: what is told, when, and how often it is tried again, is the scheduler's.
//
//	event.go    what is told: the documented JSON form
//	render.go   the body: that form, a chat message, or a template of the target's own
//	sign.go     the signature, and how a receiver verifies it
//	send.go     one delivery
//
// An event holds codes, hints, numbers and names: nothing that a payer said, and no URL.
package notify
