package export

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/fhir"
)

const (
	// maxKickOffURL is the length beyond which a kick-off becomes a POST: longer request lines are cut or refused on the
	// way (KICK-2).
	maxKickOffURL = 2000
	// busyWait is how long to wait for a running export where the payer names no time, or none at all: BCDA's default is
	// Retry-After: 0 (KICK-8).
	busyWait = time.Minute
	// acceptedBodyTime bounds how long the body of an acceptance is waited for: the status URL is not stored yet.
	acceptedBodyTime = 5 * time.Second
	// maxRunning bounds the status URLs that are taken from one refusal.
	maxRunning = 100
)

// KickOffRequest is what differs between the exports of one payer. All else follows from its configuration.
type KickOffRequest struct {
	// Since is the _since instant as it is to be sent, empty for none.
	Since string
	// Until is the _until instant, empty for none.
	Until string
	// Types replaces the configured types; nil takes those.
	Types []string
	// Patients replaces the configured patients, as Patient/id or as mere ids; nil takes those.
	Patients []string
}

// KickOff is the payer's acceptance of an export.
type KickOff struct {
	// StatusURL is where the export's status is asked for, absolute. It belongs into the database before anything else
	// happens (KICK-6).
	StatusURL string
	// Date is the payer's clock when it answered, zero where it did not say.
	Date time.Time
	// Warnings are the issues of an OperationOutcome that came with the acceptance.
	Warnings []fhir.Issue
	// Without are the parameters that the payer refused, and that the export goes on without. Where _since is among them, it
	// is a full export.
	Without []string
	// SeparateStatus is true where the payer tells the state of the export apart from that of the request for it: ask with
	// PollSeparate.
	SeparateStatus bool
}

// KickOff asks the payer to start an export (Bulk Data 3.0, Kick-off Request). It is not idempotent and never repeated
// here: where an *Error has MaybeStarted, the payer may be exporting although its answer was lost. The exception is a server
// that refuses a parameter by its name: it is asked again without allowPartialManifests, which changes nothing about the data,
// and with export.handling lenient also without others that are optional; see KickOff.Without.
func (c *Client) KickOff(ctx context.Context, r KickOffRequest) (KickOff, error) {
	return c.kickOffWithout(ctx, r)
}

// namedParameters returns the parameters of the export operation that a refusal names in its text.
func namedParameters(refused *Error) []string {
	return namedIn(strings.ToLower(refused.Outcome.Text(fhir.MaxOutcomeBytes) + refused.Excerpt))
}

// namedIn returns the parameters of the export operation that stand in a text in small letters.
func namedIn(said string) []string {
	var named []string
	for _, name := range parameterNames {
		if hasWord(said, strings.ToLower(name)) {
			named = append(named, name)
		}
	}
	return named
}

// hasWord reports whether word stands in text and does not go on there: _type is also the start of _typefilter.
func hasWord(text, word string) bool {
	for {
		_, rest, found := strings.Cut(text, word)
		if !found {
			return false
		}
		if rest == "" || rest[0] < 'a' || rest[0] > 'z' {
			return true
		}
		text = rest
	}
}

func (c *Client) kickOff(ctx context.Context, r KickOffRequest, without []string) (KickOff, error) {
	request, err := c.kickOffCall(r, without)
	if err != nil {
		return KickOff{}, &Error{
			Phase: PhaseKickOff, Code: CodeKickOffRefused, Action: ActionFail, Detail: err.Error(), Err: err,
			Hint: "check the payer's export section",
		}
	}
	response, from, err := c.do(ctx, request)
	if err != nil {
		return KickOff{}, err
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		e := c.kickOffRefused(response, from)
		if !slices.Contains(without, "_since") {
			explainSince(e, r.Since)
		}
		return KickOff{}, e
	}
	defer drain(response)
	stop := within(response.Body, acceptedBodyTime)
	data, _ := readBounded(response, maxErrorBody) // a body is optional here
	stop()
	outcome, _ := fhir.ParseOutcome(data)
	location := response.Header.Get("Content-Location")
	if location == "" {
		e := &Error{
			Phase: PhaseKickOff, Code: CodeNoStatusURL, Status: response.StatusCode, Action: ActionFail, Outcome: outcome,
			Detail: "the payer accepted the export without a Content-Location to ask for its status",
		}
		if response.StatusCode != http.StatusAccepted {
			e.Code = CodeNotAsync
			e.Detail = "the payer answered at once, with " + describe(response.Header.Get("Content-Type"), data)
			e.Hint = "it ignored Prefer: respond-async, or there is no $export at that address"
		}
		return KickOff{}, e
	}
	statusURL, err := c.statusURL(from, location)
	if err != nil {
		return KickOff{}, &Error{
			Phase: PhaseKickOff, Code: CodeURLRefused, Status: response.StatusCode, Action: ActionFail,
			Detail: "refused the status URL: " + err.Error(), Err: err, MaybeStarted: true,
		}
	}
	kickOff := KickOff{
		StatusURL: statusURL.String(), Date: responseDate(response.Header),
		SeparateStatus: c.payer.Export.SeparateStatus && appliesSeparateStatus(response.Header),
	}
	if outcome != nil {
		kickOff.Warnings = outcome.Issues
	}
	return kickOff, nil
}

// statusURL reads a URL that is asked with the token: it has to lie where the token may go.
func (c *Client) statusURL(at *url.URL, text string) (*url.URL, error) {
	u, err := c.resolve(at, text)
	if err != nil {
		return nil, err
	}
	if !c.mayHaveToken(u) {
		return nil, fmt.Errorf("it lies at %s, which download_hosts does not list with token: true", hostPort(u))
	}
	return u, nil
}

// kickOffRefused classifies a refusal and collects the running exports that it names (KICK-7, KICK-8).
func (c *Client) kickOffRefused(response *http.Response, from *url.URL) *Error {
	locations := response.Header.Values("Content-Location")
	e := c.refused(PhaseKickOff, response, true)
	if e.Code == CodeKickOffRefused {
		e.Parameters = namedParameters(e)
		if len(e.Parameters) > 0 {
			e.Detail += ", naming " + strings.Join(e.Parameters, ", ")
			e.Hint = "change or remove what the payer's export section asks for by it"
		}
	}
	e.MaybeStarted = mayHavePassedOn(e.Status)
	if e.Code != CodePayerBusy {
		return e
	}
	for _, value := range locations {
		for text := range strings.SplitSeq(value, ",") {
			if u, err := c.statusURL(from, text); err == nil && len(e.Running) < maxRunning {
				e.Running = append(e.Running, u.String())
			}
		}
	}
	limits := c.payer.Limits
	if e.RetryAfter <= 0 {
		e.RetryAfter = busyWait
		if limits.PollMax > 0 {
			e.RetryAfter = min(e.RetryAfter, limits.PollMax)
		}
	}
	e.RetryAfter = max(e.RetryAfter, limits.PollMin)
	return e
}

// kickOffCall builds the request: GET with a query, or POST with a Parameters resource (KICK-1 to KICK-5).
func (c *Client) kickOffCall(r KickOffRequest, without []string) (call, error) {
	path, err := exportPath(c.payer.Export)
	if err != nil {
		return call{}, err
	}
	endpoint, err := url.Parse(c.base.String() + path)
	if err != nil {
		return call{}, fmt.Errorf("make the kick-off URL: %w", err)
	}
	parameters := c.parameters(r, without)
	k := call{
		phase:  PhaseKickOff,
		method: http.MethodGet,
		url:    endpoint,
		header: http.Header{
			"Accept":        {"application/fhir+json"},
			"Prefer":        {c.preferences()},
			"Cache-Control": {"no-cache"},
		},
		token: true,
	}
	endpoint.RawQuery = parameters.query()
	if c.payer.Export.Method != "post" && !parameters.needPost() && len(endpoint.String()) <= maxKickOffURL {
		return k, nil
	}
	endpoint.RawQuery = ""
	k.method = http.MethodPost
	k.header.Set("Content-Type", "application/fhir+json")
	k.body, err = parameters.resource()
	return k, err
}

// exportPath returns the path of the export operation below the FHIR base (Bulk Data 3.0, Endpoints). The group id is one
// segment, whatever it holds (KICK-1).
func exportPath(e config.Export) (string, error) {
	switch e.Level {
	case "system":
		return "/$export", nil
	case "patient":
		return "/Patient/$export", nil
	case "group":
		if e.GroupID == "" || e.GroupID == "." || e.GroupID == ".." {
			return "", errors.New("export.group_id: expected the id of a group")
		}
		return "/Group/" + url.PathEscape(e.GroupID) + "/$export", nil
	}
	return "", fmt.Errorf("export.level %q: expected system, patient or group", e.Level)
}
