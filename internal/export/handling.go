package export

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ingestd/internal/fhir"
)

// handlingLenient is the value of export.handling with which the payer may ignore what it does not know, and with which an
// export goes on without optional parameters that it refuses.
const handlingLenient = "lenient"

// preferences is the Prefer header of a kick-off (RFC 7240). What is not configured is not asked for: some servers refuse
// every value but the bare one (KICK-3).
func (c *Client) preferences() string {
	preferences := []string{"respond-async"}
	if c.payer.Export.Handling == handlingLenient {
		preferences = append(preferences, "handling=lenient")
	}
	if c.payer.Export.SeparateStatus {
		preferences = append(preferences, separateExportStatus)
	}
	return strings.Join(preferences, ", ")
}

// droppable returns the parameters without which a refused kick-off may be sent again; none where it may not. Never among
// them is what would widen the request to data that nobody asked for: _type, _typeFilter, patient, _until (KICK-9).
func (c *Client) droppable(refused *Error, r KickOffRequest, without []string) []string {
	var named []string
	for _, p := range c.parameters(r, without) {
		if slices.Contains(refused.Parameters, p.name) {
			named = append(named, p.name)
		}
	}
	if refused.Code != CodeKickOffRefused || len(named) == 0 {
		return nil
	}
	if slices.Contains(named, partialManifests) { // which changes nothing about the data
		return []string{partialManifests}
	}
	if c.payer.Export.Handling != handlingLenient {
		return nil
	}
	for _, name := range named {
		switch name {
		case "_elements", "includeAssociatedData", "organizeOutputBy": // the same resources, in another form or with less beside
		case "_since":
			// Without it everything comes; but where no _since does not mean everything, something would be missing (INC-4).
			if !c.payer.Export.SinceOptional || c.payer.Export.FullSince != "" {
				return nil
			}
		default:
			return nil
		}
	}
	return named
}

// kickOffWithout sends the kick-off, and again without the parameters that the payer refuses and that are optional. Each
// time at least one fewer is sent, which bounds it.
func (c *Client) kickOffWithout(ctx context.Context, r KickOffRequest) (KickOff, error) {
	var without []string
	if c.noPartial.Load() {
		without = []string{partialManifests}
	}
	known := len(without)
	for {
		kickOff, err := c.kickOff(ctx, r, without)
		refused, ok := errors.AsType[*Error](err)
		if !ok {
			kickOff.Without = without[known:]
			return kickOff, err
		}
		more := c.droppable(refused, r, without)
		if len(more) == 0 {
			return KickOff{}, err
		}
		if slices.Contains(more, partialManifests) {
			c.noPartial.Store(true)
		}
		c.logger.WarnContext(ctx, "the payer refuses parameters of the export: asking without them", "payer", c.payer.Name, "parameters", more)
		without = append(without, more...)
	}
}

var instantInText = regexp.MustCompile(`\b[12][0-9]{3}-[01][0-9]-[0-3][0-9](T[0-9:.]+(Z|[+-][0-9]{2}:?[0-9]{2})?)?`)

// explainSince says of a kick-off whose _since was refused what was sent and, for people only, which bound the payer names
// (INC-3).
func explainSince(e *Error, since string) {
	if since == "" || !slices.Contains(e.Parameters, "_since") {
		return
	}
	e.Detail += "; _since was " + since
	e.Hint = "the payer bounds _since, or wants it otherwise"
	said := e.Outcome.Text(fhir.MaxOutcomeBytes) + " " + e.Excerpt
	for _, bound := range instantInText.FindAllString(said, -1) {
		if !strings.HasPrefix(since, bound) {
			e.Hint += fmt.Sprintf(" (it names %s)", bound)
			break
		}
	}
	e.Hint += ": set export.since or export.full_since to an instant that it takes, or export.since: never"
}

// ignoring are the words by which a server says that it passed over a parameter. OperationOutcomes have no code for it.
var ignoring = []string{"ignor", "not support", "unsupported", "not recogni", "unrecogni", "unknown", "not applied", "disregard", "not honor"}

// IgnoredParameters returns the parameters of the export operation that a payer says, in an issue of an outcome file, to have
// passed over: a server that handles requests leniently tells it nowhere else (Bulk Data 3.0, Kick-off Request; KICK-10).
func IgnoredParameters(text string) []string {
	text = strings.ToLower(text)
	if !slices.ContainsFunc(ignoring, func(word string) bool { return strings.Contains(text, word) }) {
		return nil
	}
	return namedIn(text)
}

// ParameterNames are the parameters of the export operation whose names cannot be mistaken for other words.
func ParameterNames() []string { return slices.Clone(parameterNames) }

// separateExportStatus is the preference by which the state of an export is told apart from that of the request for it.
const separateExportStatus = "separate-export-status"

// appliesSeparateStatus reports whether the payer says that it heeds that preference (RFC 7240, section 3).
func appliesSeparateStatus(header http.Header) bool {
	for _, value := range header.Values("Preference-Applied") {
		for applied := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(applied), separateExportStatus) {
				return true
			}
		}
	}
	return false
}

// exportStatus is what a status answer says of the export: the HTTP status or, where the payer tells the two apart, the
// leading number of X-Export-Status (Bulk Data 3.0, Status Request; POLL-8).
func exportStatus(response *http.Response, separate bool) int {
	if !separate || response.StatusCode < 200 || response.StatusCode > 299 {
		return response.StatusCode
	}
	text := strings.TrimSpace(response.Header.Get("X-Export-Status"))
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		text = text[:end]
	}
	if status, err := strconv.Atoi(text); err == nil && status >= 100 && status <= 599 {
		return status
	}
	return response.StatusCode
}

// ofTheRequest makes what a refusal would say of the export a failure of the request alone, because the payer tells the two
// apart: it is sent again until the export's time is over.
func ofTheRequest(e *Error) *Error {
	switch e.Code {
	case CodeJobFailed, CodeExportTooLarge, CodeUnexpectedStatus, CodeKickOffRefused:
		e.Code, e.Action = CodePayerError, ActionRetry
		e.Detail, e.Hint = "the payer refuses the request for the status, and says nothing of the export", ""
	}
	return e
}
