package payersim

import (
	"context"
	"time"
)

// source is what a payer holds. Sources are safe for concurrent use.
type source interface {
	// types lists the resource types held, in a stable order.
	types() []string
	// round is the number of the newest round; it stays 0 where data never change.
	round() int
	// advance starts the next round, whose changes carry the instant at, and returns its number.
	advance(at time.Time) int
	// plan cuts a selection into pieces of at most linesPerPiece lines.
	plan(ctx context.Context, sel selection, linesPerPiece int) ([]piece, error)
	// write calls yield with each line of a piece, newline included, until yield returns false. The line is valid until
	// yield returns.
	write(ctx context.Context, p piece, yield func(line []byte) bool) error
	// deletions calls yield with the id of each resource that was deleted after sel.since and is gone in the selected round, whether
	// or not the client ever had it (Bulk Data 3.0, manifest `deleted`).
	deletions(ctx context.Context, sel selection, yield func(id string) bool) error
	// identify returns the id of a line of this source, "" where it has none.
	identify(line []byte) string
	// fingerprint names the data of a round: two sources with the same one hold the same bytes.
	fingerprint(round int) string
	close() error
}

// selection names the resources of one type that an export holds.
type selection struct {
	resourceType string
	round        int
	since        time.Time // zero: everything
	until        time.Time // zero: no bound
}

// piece is a run of lines of a selection: the content of one output file, before injected lines.
type piece struct {
	selection
	// from is where the run starts; its meaning is the source's own.
	from int
	// first is the number of lines of the selection before this piece.
	first int
	lines int
	// bytes is the length of all lines with their newlines, -1 if only rendering can tell.
	bytes int64
}

// holds tells whether a resource last updated at the instant (milliseconds since 1970) is selected.
// Bulk Data 3.0, Query Parameters: `_since` selects what is later, `_until` what is earlier.
func (s selection) holds(updated int64) bool {
	if !s.since.IsZero() && updated <= s.since.UnixMilli() {
		return false
	}
	return s.until.IsZero() || time.UnixMilli(updated).Before(s.until)
}

// associated are the resource types outside the patient compartment that a patient- or group-level export holds only
// when it asks for them by name.
var associated = map[string]bool{
	"Endpoint": true, "HealthcareService": true, "InsurancePlan": true, "Location": true, "Medication": true,
	"Organization": true, "OrganizationAffiliation": true, "Practitioner": true, "PractitionerRole": true, "Substance": true,
}
