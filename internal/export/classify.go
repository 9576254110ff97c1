package export

import (
	"net/http"
	"strings"
	"time"

	"ingestd/internal/fhir"
)

// The codes that a payer's answer leads to. Codes of failed connections are those of package outbound.
const (
	CodeKickOffRefused       = "kickoff_refused"
	CodeMethodRefused        = "kickoff_method_refused"
	CodeNotAvailable         = "kickoff_not_available"
	CodeUnanswered           = "kickoff_unanswered"
	CodeNotAsync             = "kickoff_not_async"
	CodeNoStatusURL          = "kickoff_no_status_url"
	CodePayerBusy            = "payer_busy"
	CodeThrottled            = "payer_throttled"
	CodePayerTransient       = "payer_transient"
	CodePayerError           = "payer_error"
	CodeUnauthorized         = "unauthorized"
	CodeForbidden            = "forbidden"
	CodeAuthorization        = "authorization_failed"
	CodeJobGone              = "job_gone"
	CodeJobFailed            = "job_failed"
	CodeExportTooLarge       = "export_too_large"
	CodeNotAManifest         = "not_a_manifest"
	CodeManifestTooLarge     = "manifest_too_large"
	CodeURLRefused           = "url_refused"
	CodeRedirectRefused      = "redirect_refused"
	CodeUnexpectedStatus     = "unexpected_status"
	CodeFileGone             = "file_gone"
	CodeFileExpired          = "file_url_expired"
	CodeFileRefused          = "file_refused"
	CodeFileTruncated        = "file_truncated"
	CodeFileStalled          = "file_stalled"
	CodeFileCorrupt          = "file_corrupt"
	CodeFileChecksum         = "file_checksum"
	CodeFileNotNDJSON        = "file_not_ndjson"
	CodeFileEncoding         = "file_encoding"
	CodeFileExpansion        = "file_expansion"
	CodeFileScheme           = "file_scheme_unknown"
	CodeFileToken            = "file_token_refused"
	CodeAttachmentRefused    = "attachment_refused"
	CodeAttachmentTooLarge   = "attachment_too_large"
	CodeAttachmentMismatch   = "attachment_mismatch"
	CodeAttachmentUnreadable = "attachment_unreadable"
	CodeCapability           = "capability_refused"
	CodeNoCapability         = "not_a_capability_statement"
	CodePagesEndless         = "manifest_pages_endless"
	CodePagesDisagree        = "manifest_pages_disagree"
)

const (
	// jobGrace is how long after the kick-off a 404 may mean that the job is not known everywhere yet (POLL-7).
	jobGrace = 2 * time.Minute
	// fileGrace is how long after the manifest a 404 may mean that a file is not there everywhere yet (FILE-11).
	fileGrace = 3 * time.Minute
)

// verdict is what the table says about an answer.
type verdict struct {
	code   string
	action Action
	detail string
	hint   string
	grace  time.Duration
}

// classify is the table of protocol.md ERR-3: the one place where an HTTP status becomes a decision. withToken says
// whether a file was requested with the access token.
func classify(phase Phase, status int, outcome *fhir.Outcome, withToken bool) verdict {
	switch {
	case status == http.StatusTooManyRequests && phase == PhaseKickOff:
		return verdict{code: CodePayerBusy, action: ActionWait, detail: "an export that is already running blocks this one"}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return verdict{code: CodeThrottled, action: ActionWait, detail: "the payer asks for patience"}
	case status == http.StatusUnauthorized:
		return classifyUnauthorized(phase, withToken)
	case status == http.StatusNotImplemented || status == http.StatusHTTPVersionNotSupported:
		return classifyRefused(phase)
	case status >= 500:
		if outcome.Transient() {
			return classifyTransient(phase)
		}
		return verdict{code: CodePayerError, action: ActionRetry, detail: "the payer reports an internal error"}
	case outcome.Transient() && phase == PhaseStatus:
		return classifyTransient(phase)
	case status < 400:
		return verdict{code: CodeUnexpectedStatus, action: ActionFail, detail: "an answer that the protocol does not know"}
	}
	switch phase {
	case PhaseKickOff:
		return classifyKickOff(status, outcome)
	case PhaseFile:
		return classifyFile(status, outcome, withToken)
	case PhaseAttachment:
		return verdict{code: CodeAttachmentRefused, action: ActionFail, detail: "the payer does not give the attachment"}
	case PhaseCapability:
		return verdict{code: CodeCapability, action: ActionFail, detail: "the server does not show its metadata"}
	default:
		return classifyStatus(status)
	}
}

func classifyUnauthorized(phase Phase, withToken bool) verdict {
	if phase == PhaseFile && !withToken {
		return verdict{code: CodeFileExpired, action: ActionRenew, detail: "the file's URL does not open it"}
	}
	return verdict{
		code: CodeUnauthorized, action: ActionFail, detail: "a fresh access token was refused",
		hint: "check that the payer has this client enabled, and that the job or file belongs to it",
	}
}

func classifyTransient(phase Phase) verdict {
	v := verdict{code: CodePayerTransient, action: ActionRetry, detail: "the payer reports a passing error"}
	if phase == PhaseStatus { // the job is still running: this is an answer, not a failure (POLL-6)
		v.action = ActionWait
	}
	return v
}

func classifyRefused(phase Phase) verdict {
	switch phase {
	case PhaseFile:
		return verdict{code: CodeFileRefused, action: ActionFail, detail: "the payer does not serve this file"}
	case PhaseAttachment:
		return verdict{code: CodeAttachmentRefused, action: ActionFail, detail: "the payer does not serve attachments"}
	default:
	}
	return verdict{
		code: CodeKickOffRefused, action: ActionFail, detail: "the payer does not implement this request",
		hint: "check export.level and export.method against the payer's documentation",
	}
}

func classifyKickOff(status int, outcome *fhir.Outcome) verdict {
	if alreadyRunning(outcome) {
		return verdict{code: CodePayerBusy, action: ActionWait, detail: "an export that is already running blocks this one"}
	}
	switch status {
	case http.StatusForbidden:
		return verdict{
			code: CodeForbidden, action: ActionFail, detail: "the payer does not allow this export",
			hint: "check the granted scopes, export.level and export.group_id",
		}
	case http.StatusNotFound, http.StatusGone:
		return verdict{
			code: CodeNotAvailable, action: ActionNextTick, detail: "the payer has nothing to export there now",
			hint: "if this lasts, check fhir_url, export.level and export.group_id",
		}
	case http.StatusNotAcceptable:
		return verdict{
			code: CodeNotAvailable, action: ActionNextTick, detail: "the payer has nothing to export now",
			hint: "the group may be empty; if it is not, the payer may not offer NDJSON",
		}
	case http.StatusMethodNotAllowed:
		return verdict{
			code: CodeMethodRefused, action: ActionFail, detail: "the payer does not take this HTTP method",
			hint: "set export.method to the other of get and post",
		}
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return verdict{
			code: CodeExportTooLarge, action: ActionFail, detail: "the payer finds the request or the export too large",
			hint: "narrow export.types or export.patients",
		}
	}
	if outcome.Transient() {
		return classifyTransient(PhaseKickOff)
	}
	return verdict{code: CodeKickOffRefused, action: ActionFail, detail: "the payer refuses the request"}
}

func classifyStatus(status int) verdict {
	switch status {
	case http.StatusNotFound:
		return verdict{
			code: CodeJobGone, action: ActionRestart, detail: "the payer does not know the export", grace: jobGrace,
		}
	case http.StatusGone:
		return verdict{code: CodeJobGone, action: ActionRestart, detail: "the payer has discarded the export"}
	case http.StatusForbidden:
		return verdict{
			code: CodeForbidden, action: ActionFail, detail: "the payer does not allow to see the export",
			hint: "check the granted scopes",
		}
	case http.StatusRequestEntityTooLarge:
		return verdict{
			code: CodeExportTooLarge, action: ActionFail, detail: "the payer finds the export too large",
			hint: "narrow export.types, or ask for a later _since",
		}
	}
	return verdict{code: CodeJobFailed, action: ActionFail, detail: "the payer has failed the export"}
}

func classifyFile(status int, outcome *fhir.Outcome, withToken bool) verdict {
	switch status {
	case http.StatusForbidden:
		v := verdict{code: CodeFileExpired, action: ActionRenew, detail: "the file's URL does not open it any more"}
		if withToken {
			v.hint = "if a new URL is refused too, check the granted scopes"
		}
		return v
	case http.StatusNotFound:
		return verdict{code: CodeFileGone, action: ActionRenew, detail: "the file is not there", grace: fileGrace}
	case http.StatusGone:
		return verdict{code: CodeFileGone, action: ActionRenew, detail: "the file is gone"}
	}
	if outcome.Transient() {
		return classifyTransient(PhaseFile)
	}
	return verdict{code: CodeFileRefused, action: ActionFail, detail: "the payer refuses the file"}
}

// mayHavePassedOn reports whether a status is a gateway's that lost the server, or gave up waiting for it: the request may have
// arrived. 524 is that of a large network of such gateways.
func mayHavePassedOn(status int) bool {
	const aTimeoutOccurred = 524
	return status == http.StatusBadGateway || status == http.StatusGatewayTimeout || status == aTimeoutOccurred
}

// alreadyRunning reports whether an answer other than 429 says that an export is running already. Servers have no common
// code for it, so that only the words are left.
func alreadyRunning(outcome *fhir.Outcome) bool {
	if outcome == nil {
		return false
	}
	for _, issue := range outcome.Issues {
		words := strings.ToLower(issue.Text + " " + issue.Diagnostics)
		if !strings.Contains(words, "export") && !strings.Contains(words, "job") && !strings.Contains(words, "request") {
			continue
		}
		for _, phrase := range []string{
			"already running", "already in progress", "already active", "already exists",
			"currently running", "currently in progress",
		} {
			if strings.Contains(words, phrase) {
				return true
			}
		}
	}
	return false
}
