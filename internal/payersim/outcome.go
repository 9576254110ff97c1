package payersim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// refusal is an answer other than success under the FHIR base.
type refusal struct {
	status     int
	code       string // of the issue: FHIR issue-type
	text       string
	retryAfter time.Duration
	challenge  string // of WWW-Authenticate
}

// outcomeJSON is an OperationOutcome with one issue.
func outcomeJSON(severity, code, text string) []byte {
	type details struct {
		Text string `json:"text"`
	}
	type issue struct {
		Severity    string  `json:"severity"`
		Code        string  `json:"code"`
		Details     details `json:"details"`
		Diagnostics string  `json:"diagnostics"`
	}
	body, err := json.Marshal(struct {
		ResourceType string  `json:"resourceType"`
		Issue        []issue `json:"issue"`
	}{"OperationOutcome", []issue{{severity, code, details{text}, text}}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return body
}

// refuse answers with the refusal as an OperationOutcome. Bulk Data 3.0, Response - Error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, no refusal) {
	s.log.DebugContext(r.Context(), "request refused",
		"method", r.Method, "path", r.URL.Path, "status", no.status, "reason", no.text)
	if no.challenge != "" {
		w.Header().Set("WWW-Authenticate", no.challenge)
	}
	if no.retryAfter > 0 {
		w.Header().Set("Retry-After", wholeSeconds(no.retryAfter))
	}
	writeBody(w, no.status, "application/fhir+json", outcomeJSON("error", no.code, no.text))
}

// wholeSeconds is a duration as Retry-After names it: rounded up, so that whoever waits that long is never too early.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // only values of this package's own types come here
	}
	writeBody(w, status, "application/json", body)
}
