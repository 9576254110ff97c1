package export

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ingestd/internal/fhir"
)

func TestExcerpt_is_printable_and_bounded_and_holds_no_tokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "",
		"Unknown allowPartialManifests!": "Unknown allowPartialManifests!",
		"token=eyJhbGciOiJSUzM4NCJ9.eyJpc3MiOiJhYmMifQ.sig": "token=***.***.sig",
		"a\r\n\x1b[0mb":             "a [0mb",
		strings.Repeat("x", 100):    "***",
		"ünï " + "0123456789abcdef": "ünï ***",
	} {
		if got := excerpt([]byte(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := excerpt([]byte(strings.Repeat("words and ", 1000))); len(got) > maxExcerpt+len("…") {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ contentType, data, want string }{
		{"", "", "an empty body"},
		{"", " \n", "an empty body"},
		{"", "<!DOCTYPE HTML>", "an HTML page"},
		{"", "\n<HTML>", "an HTML page"},
		{"", "<Error>", "XML or HTML"},
		{"", `{"resourceType" : "Binary"}`, "a FHIR Binary"},
		{"", `{"resourceType":"<script>"}`, "a JSON object"},
		{"", `{}`, "a JSON object"},
		{"", `[]`, "a JSON array"},
		{"", "\x1f\x8b\x08", "gzip data"},
		{"", "PK\x03\x04", "a ZIP archive"},
		{"text/plain; charset=utf-8", "oops", "plain text"},
		{"x", "oops", "data of an unknown kind"},
	} {
		if got := describe(test.contentType, []byte(test.data)); got != test.want {
			t.Errorf("%q: got %q, want %q", test.data, got, test.want)
		}
	}
}

// TestERR3_theTable holds protocol.md's table, cell by cell: the same status means different things in different phases.
func TestERR3_theTable(t *testing.T) {
	t.Parallel()
	passing := &fhir.Outcome{Issues: []fhir.Issue{{Severity: "error", Code: "throttled"}}}
	final := &fhir.Outcome{Issues: []fhir.Issue{{Severity: "fatal", Code: "exception"}}}
	for _, row := range []struct {
		status                int
		outcome               *fhir.Outcome
		kickOff, poll, file   Action
		tokenless, deletion   Action
		kickOffCode, pollCode string
	}{
		{400, nil, ActionFail, ActionFail, ActionFail, ActionFail, ActionFail, CodeKickOffRefused, CodeJobFailed},
		{400, passing, ActionRetry, ActionWait, ActionRetry, ActionRetry, ActionFail, CodePayerTransient, CodePayerTransient},
		{401, nil, ActionFail, ActionFail, ActionFail, ActionRenew, ActionFail, CodeUnauthorized, CodeUnauthorized},
		{403, nil, ActionFail, ActionFail, ActionRenew, ActionRenew, ActionFail, CodeForbidden, CodeForbidden},
		{404, nil, ActionNextTick, ActionRestart, ActionRenew, ActionRenew, ActionRestart, CodeNotAvailable, CodeJobGone},
		{405, nil, ActionFail, ActionFail, ActionFail, ActionFail, ActionFail, CodeMethodRefused, CodeJobFailed},
		{406, nil, ActionNextTick, ActionFail, ActionFail, ActionFail, ActionFail, CodeNotAvailable, CodeJobFailed},
		{408, nil, ActionWait, ActionWait, ActionWait, ActionWait, ActionWait, CodeThrottled, CodeThrottled},
		{410, nil, ActionNextTick, ActionRestart, ActionRenew, ActionRenew, ActionRestart, CodeNotAvailable, CodeJobGone},
		{413, nil, ActionFail, ActionFail, ActionFail, ActionFail, ActionFail, CodeExportTooLarge, CodeExportTooLarge},
		{422, nil, ActionFail, ActionFail, ActionFail, ActionFail, ActionFail, CodeKickOffRefused, CodeJobFailed},
		{425, nil, ActionWait, ActionWait, ActionWait, ActionWait, ActionWait, CodeThrottled, CodeThrottled},
		{429, nil, ActionWait, ActionWait, ActionWait, ActionWait, ActionWait, CodePayerBusy, CodeThrottled},
		{500, final, ActionRetry, ActionRetry, ActionRetry, ActionRetry, ActionRetry, CodePayerError, CodePayerError},
		{500, passing, ActionRetry, ActionWait, ActionRetry, ActionRetry, ActionRetry, CodePayerTransient, CodePayerTransient},
		{502, nil, ActionRetry, ActionRetry, ActionRetry, ActionRetry, ActionRetry, CodePayerError, CodePayerError},
		{504, nil, ActionRetry, ActionRetry, ActionRetry, ActionRetry, ActionRetry, CodePayerError, CodePayerError},
	} {
		for _, cell := range []struct {
			phase Phase
			token bool
			want  Action
		}{
			{PhaseKickOff, true, row.kickOff},
			{PhaseStatus, true, row.poll},
			{PhaseFile, true, row.file},
			{PhaseFile, false, row.tokenless},
			{PhaseDelete, true, row.deletion},
		} {
			if got := classify(cell.phase, row.status, row.outcome, cell.token); got.action != cell.want || got.code == "" || got.detail == "" {
				t.Errorf("%d at %s (token %v, %s): got %+v, want %s", row.status, cell.phase, cell.token, row.outcome.Codes(), got, cell.want)
			}
		}
		if got := classify(PhaseKickOff, row.status, row.outcome, true).code; got != row.kickOffCode {
			t.Errorf("%d at the kick-off: got %s, want %s", row.status, got, row.kickOffCode)
		}
		if got := classify(PhaseStatus, row.status, row.outcome, true).code; got != row.pollCode {
			t.Errorf("%d at the status: got %s, want %s", row.status, got, row.pollCode)
		}
	}
}

func TestERR3_everyStatusHasAVerdict(t *testing.T) {
	t.Parallel()
	for _, phase := range []Phase{PhaseKickOff, PhaseStatus, PhaseFile, PhaseDelete, PhaseCapability} {
		for status := 100; status < 600; status++ {
			if v := classify(phase, status, nil, true); v.code == "" || v.detail == "" {
				t.Errorf("%s, %d %s: got %+v", phase, status, http.StatusText(status), v)
			}
		}
	}
}

func TestAction_has_a_name(t *testing.T) {
	t.Parallel()
	if got := fmt.Sprint(ActionFail, ActionRetry, ActionWait, ActionNextTick, ActionRestart, ActionRenew, Action(99)); got !=
		"fail retry wait next_tick restart renew action(99)" {
		t.Errorf("got %s", got)
	}
}
