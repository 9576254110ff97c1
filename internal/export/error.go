package export

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"ingestd/internal/fhir"
	"ingestd/internal/outbound"
)

// Phase is the part of an export in which an exchange failed.
type Phase string

// The phases of an export.
const (
	PhaseKickOff  Phase = "kickoff"
	PhaseStatus   Phase = "status"
	PhaseManifest Phase = "manifest"
	PhaseFile     Phase = "file"
	PhaseDelete   Phase = "delete"

	PhaseAttachment Phase = "attachment"
)

// endpoint is what the requests of a phase are counted as.
func (p Phase) endpoint() outbound.Endpoint {
	switch p {
	case PhaseKickOff:
		return outbound.EndpointKickOff
	case PhaseStatus:
		return outbound.EndpointStatus
	case PhaseManifest:
		return outbound.EndpointManifest
	case PhaseFile:
		return outbound.EndpointFile
	case PhaseAttachment:
		return outbound.EndpointAttachment
	case PhaseDelete:
		return outbound.EndpointDelete
	case PhaseCapability:
		return outbound.EndpointMetadata
	case PhaseProbe:
	}
	return outbound.EndpointOther
}

// Action is what a failure asks of the caller.
type Action int

const (
	// ActionFail ends the export: trying again changes nothing before somebody changes something.
	ActionFail Action = iota
	// ActionRetry asks for the same exchange again with backoff, a bounded number of times.
	ActionRetry
	// ActionWait asks for the same exchange again after RetryAfter. It is no failure and does not count as an attempt.
	ActionWait
	// ActionNextTick ends this run without alarm: the payer has nothing to give now.
	ActionNextTick
	// ActionRestart says that the payer no longer knows the job: kick off again, with the same _since.
	ActionRestart
	// ActionRenew says that a file's URL no longer works: read the manifest again for a new one, and if the new one does
	// not work either, kick off again.
	ActionRenew
)

var actionNames = [...]string{"fail", "retry", "wait", "next_tick", "restart", "renew"}

// String returns the action's name in snake_case.
func (a Action) String() string {
	if a < 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("action(%d)", int(a))
	}
	return actionNames[a]
}

// Error is the failure of one exchange with a payer, classified once for everybody.
type Error struct {
	Phase Phase
	// Code names the failure. It is stable: runbooks, metrics and alerts refer to it.
	Code string
	// Status is the HTTP status, 0 where no response came.
	Status int
	Action Action
	// RetryAfter is how long to wait at least before the next attempt; 0 leaves it to the caller's backoff.
	RetryAfter time.Duration
	// Grace is set where the failure may be the lag of a replica: while the job (PhaseStatus) or the manifest (PhaseFile)
	// is younger than this, treat the error as ActionRetry, whatever Action says (POLL-7, FILE-11).
	Grace time.Duration
	// Outcome is the OperationOutcome that came with the response, nil where there was none.
	Outcome *fhir.Outcome
	// Detail says in words what happened; it is safe to log.
	Detail string
	// Excerpt is the start of what came instead of what was asked for, printable and with long runs of letters and digits
	// removed. It may hold PHI.
	Excerpt string
	// Hint says what an operator can do.
	Hint string
	// Parameters are the parameters of the export operation that a refused kick-off names.
	Parameters []string
	// Running holds the status URLs of the exports that block this kick-off, where the payer names them (KICK-7).
	Running []string
	// MaybeStarted is true for a kick-off that the payer may have accepted although its answer was lost (KICK-7).
	MaybeStarted bool
	Err          error
}

// maxOperatorText bounds what Operator quotes of the payer.
const maxOperatorText = 2000

// Error returns one line that is safe to log: phase, code, status, and of an OperationOutcome severities and codes only.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Phase, e.Code)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if codes := e.Outcome.Codes(); codes != "" {
		b.WriteString(" [" + codes + "]")
	}
	return b.String()
}

// Operator returns one line with everything that an operator needs beside the Hint, the payer's own words included. It may name a
// patient: it is for the database and the terminal, never for a log.
func (e *Error) Operator() string {
	text := e.Error()
	if said := e.Outcome.Text(maxOperatorText); said != "" {
		text += payerSays + credentialLike.ReplaceAllString(said, "***")
	}
	if e.Excerpt != "" {
		text += itBegins + e.Excerpt
	}
	return text
}

// credentialLike matches what a careless server may echo: a JWT, what stands behind Bearer, or a run of token characters that no id has.
var credentialLike = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}[A-Za-z0-9_.-]*|(?i:bearer)\s+[A-Za-z0-9_+/=.~-]{16,}|[A-Za-z0-9_+-]{64,}`)

// What Operator writes before the payer's words.
const (
	payerSays = "; the payer says: "
	itBegins  = "; it begins: "
)

// WithoutPayersWords is what Operator wrote, up to the payer's own words: as Error wrote it.
func WithoutPayersWords(text string) string {
	text, _, _ = strings.Cut(text, payerSays)
	text, _, _ = strings.Cut(text, itBegins)
	return text
}

// Unwrap returns the cause, nil where the payer's answer is the cause.
func (e *Error) Unwrap() error { return e.Err }
