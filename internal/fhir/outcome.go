package fhir

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxOutcomeBytes is the largest OperationOutcome that callers need to read; a longer one tells nothing more.
const MaxOutcomeBytes = 1 << 20

// maxIssues bounds the issues that are kept of one OperationOutcome.
const maxIssues = 1000

// Issue is one issue of an OperationOutcome. Text and Diagnostics are the payer's own words and may name a patient: they
// belong into the database, never into a log or a metric.
type Issue struct {
	// Severity is fatal, error, warning, information or success; "error" where the payer gave none that FHIR knows.
	Severity string
	// Code is the issue-type code, empty where the payer gave none.
	Code string
	// Text is details.text, or the display or code of the first coding where there is no text.
	Text        string
	Diagnostics string
}

// Outcome is what an OperationOutcome says.
type Outcome struct{ Issues []Issue }

// severities ranks the severities of FHIR R4 to R5, the worst last.
var severities = []string{"success", "information", "warning", "error", "fatal"}

// SeverityRank orders severities: 0 for success to 4 for fatal. A severity that FHIR does not know ranks as error, so
// that a payer's slip never makes a failure look harmless.
func SeverityRank(severity string) int {
	for rank, name := range severities {
		if name == severity {
			return rank
		}
	}
	return 3
}

// transientCodes are the issue-type codes that promise that the same request may succeed later (FHIR R4, issue-type;
// Bulk Data 3.0, Response - Error Status).
var transientCodes = map[string]bool{
	"transient": true, "throttled": true, "timeout": true, "lock-error": true, "no-store": true, "incomplete": true,
}

// ParseOutcome reads an OperationOutcome out of whatever a payer sent with an error. Only the first JSON value counts,
// members of a wrong type are passed over, and a single issue need not stand in an array. The second result is false
// where the data is no OperationOutcome at all.
func ParseOutcome(data []byte) (*Outcome, bool) {
	data = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(data), []byte("\ufeff")))
	if len(data) == 0 || data[0] != '{' {
		return nil, false
	}
	var root map[string]json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&root); err != nil {
		return nil, false
	}
	if resourceType, ok := root["resourceType"]; ok {
		if textOf(resourceType) != "OperationOutcome" {
			return nil, false
		}
	} else if root["issue"] == nil {
		return nil, false
	}
	outcome := &Outcome{}
	for _, raw := range elementsOf(root["issue"]) {
		if len(outcome.Issues) == maxIssues {
			break
		}
		var issue map[string]json.RawMessage
		if json.Unmarshal(raw, &issue) != nil || issue == nil {
			continue
		}
		outcome.Issues = append(outcome.Issues, Issue{
			Severity:    knownSeverity(textOf(issue["severity"])),
			Code:        strings.TrimSpace(textOf(issue["code"])),
			Text:        detailsText(issue["details"]),
			Diagnostics: textOf(issue["diagnostics"]),
		})
	}
	return outcome, true
}

// Worst returns the worst severity of the issues, and "" where there are none.
func (o *Outcome) Worst() string {
	if o == nil || len(o.Issues) == 0 {
		return ""
	}
	worst := o.Issues[0].Severity
	for _, issue := range o.Issues[1:] {
		if SeverityRank(issue.Severity) > SeverityRank(worst) {
			worst = issue.Severity
		}
	}
	return worst
}

// Transient reports whether the payer says that the same request may succeed later: an issue of the worst severity has
// one of FHIR's transient codes.
func (o *Outcome) Transient() bool {
	worst := o.Worst()
	if o == nil {
		return false
	}
	for _, issue := range o.Issues {
		if issue.Severity == worst && transientCodes[issue.Code] {
			return true
		}
	}
	return false
}

// Codes returns severity and code of the first issues, as "error/exception, warning/informational": what may be logged of
// an OperationOutcome. Codes that are no plain words are left out, because they are the payer's text.
func (o *Outcome) Codes() string {
	if o == nil {
		return ""
	}
	const most = 3
	var b strings.Builder
	for i, issue := range o.Issues {
		if i == most {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(issue.Severity)
		if plainCode(issue.Code) {
			b.WriteString("/" + issue.Code)
		}
	}
	return b.String()
}

// Text returns the issues with the payer's words in one printable line of at most limit bytes. It may name a patient.
func (o *Outcome) Text(limit int) string {
	if o == nil {
		return ""
	}
	var b strings.Builder
	for i, issue := range o.Issues {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(issue.Severity)
		if issue.Code != "" {
			b.WriteString(" " + issue.Code)
		}
		words := issue.Text
		if issue.Diagnostics != "" && issue.Diagnostics != words {
			if words != "" {
				words += " - "
			}
			words += issue.Diagnostics
		}
		if words != "" {
			b.WriteString(": " + words)
		}
		if b.Len() > limit {
			break
		}
	}
	return Printable(b.String(), limit)
}

// Printable makes text that a payer sent safe to show on one line: control and format characters (line breaks, escape
// sequences, right-to-left overrides) and invalid UTF-8 become single spaces, and at most limit bytes are kept.
func Printable(text string, limit int) string {
	var b strings.Builder
	space := false
	for _, r := range text {
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = b.Len() > 0
			continue
		}
		if b.Len()+utf8.RuneLen(r)+1 > limit {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

func knownSeverity(severity string) string {
	severity = strings.ToLower(strings.TrimSpace(severity))
	return severities[SeverityRank(severity)]
}

// plainCode reports whether code looks like a code of a FHIR value set: lower-case words and hyphens.
func plainCode(code string) bool {
	if code == "" || len(code) > 32 {
		return false
	}
	for _, c := range []byte(code) {
		if (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

// detailsText returns the text of a CodeableConcept, or what its first coding says.
func detailsText(raw json.RawMessage) string {
	var details map[string]json.RawMessage
	if json.Unmarshal(raw, &details) != nil {
		return textOf(raw) // some servers write a plain string
	}
	if text := textOf(details["text"]); text != "" {
		return text
	}
	for _, element := range elementsOf(details["coding"]) {
		var coding map[string]json.RawMessage
		if json.Unmarshal(element, &coding) != nil {
			continue
		}
		if display := textOf(coding["display"]); display != "" {
			return display
		}
		if code := textOf(coding["code"]); code != "" {
			return code
		}
	}
	return ""
}

// textOf returns the JSON string in raw, and "" where raw is anything else.
func textOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// elementsOf returns the elements of the array in raw, or raw itself as the only element.
func elementsOf(raw json.RawMessage) []json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) == nil {
		return elements
	}
	return []json.RawMessage{raw}
}
