// Package export is the client of a payer's FHIR Bulk Data $export operation: kick-off, status requests, manifest,
// output files and clean-up. It knows HTTP and nothing of databases or schedules.
//
// One Client serves one payer. Each method is one HTTP exchange (with its redirects), holds no state between calls and
// never sleeps: what to do next - try again, wait, start over, give up - comes back as an *Error whose Action is decided
// in one table (classify.go), so that a caller that survives restarts can turn it into a durable job.
//
//	KickOff ──► Poll, … ──► Manifest ──► Open each File ──► LineReader ──► Delete
//
// Invariants:
//
//   - The access token and the payer's extra headers go to the FHIR base's origin and to hosts that the configuration
//     lists with token: true, and nowhere else, redirects included. Files that require no token are requested without.
//   - Every URL that the payer names is checked before it is used, and where it leads is checked again when it is dialled
//     (package outbound).
//   - A Body ends with io.EOF only if the whole file came: anything shorter is an error.
//   - Error.Error is safe to log. What the payer said, which may name a patient, is in Error.Operator only.
//
// It implements "Bulk Data Access IG" STU1 (1.0) to STU3 (3.0.0) and reads what the STU4 ballot sends; the rule ids in
// comments (KICK-3, FILE-5, …) are those of the project's wire protocol checklist.
package export
