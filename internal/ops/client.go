package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/fhir"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

const (
	// clientTimeout bounds a request to the API with its answer.
	clientTimeout = 30 * time.Second
	// maxAnswer bounds an answer of the API, in bytes.
	maxAnswer = 64 << 20
)

// Client asks a daemon's admin API for what Direct does on the database. Errors that the daemon answers are *Problem.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// NewClient returns a client of the admin listener at an http or https URL. The token may be empty, for one without; with one, http is for
// loopback hosts alone, as everywhere.
func NewClient(server, token string) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(server, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || base.RawQuery != "" {
		return nil, errors.New("expected the URL of a daemon's admin listener, such as http://127.0.0.1:8090")
	}
	if token != "" && base.Scheme == "http" && !config.IsLoopbackHost(base.Hostname()) {
		return nil, errors.New("a token is not sent in the clear: expected https, or the loopback end of a tunnel, such as http://127.0.0.1:8090")
	}
	return &Client{base: base, token: token, http: &http.Client{
		Timeout: clientTimeout,
		// A token goes to the server that was named, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Status is Direct.Status.
func (c *Client) Status(ctx context.Context) ([]PayerStatus, error) {
	var status []PayerStatus
	err := c.get(ctx, "payers", nil, &status)
	return status, err
}

// Exports is Direct.Exports.
func (c *Client) Exports(ctx context.Context, f ExportFilter) ([]ExportSummary, error) {
	query := url.Values{}
	set(query, "payer", f.Payer)
	set(query, "state", string(f.State))
	if f.Limit != 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	var exports []ExportSummary
	err := c.get(ctx, "exports", query, &exports)
	return exports, err
}

// Export is Direct.Export.
func (c *Client) Export(ctx context.Context, id int64) (ExportDetail, error) {
	var x ExportDetail
	err := c.get(ctx, exportPath(id), nil, &x)
	return x, err
}

// Start is Direct.Start.
func (c *Client) Start(ctx context.Context, payer string, o scheduler.RunOptions) (int64, error) {
	body := startRequest{Payer: payer, Full: o.Full}
	if !o.Since.IsZero() {
		body.Since = o.Since.Format(time.RFC3339Nano)
	}
	var ref exportRef
	err := c.post(ctx, "exports", body, o.By, &ref)
	return ref.ExportID, err
}

// Cancel is Direct.Cancel.
func (c *Client) Cancel(ctx context.Context, id int64, by store.Actor) error {
	return c.post(ctx, exportPath(id)+"/cancel", nil, by, nil)
}

// Release is Direct.Release.
func (c *Client) Release(ctx context.Context, id int64, by store.Actor) error {
	return c.post(ctx, exportPath(id)+"/release", nil, by, nil)
}

// Reject is Direct.Reject.
func (c *Client) Reject(ctx context.Context, id int64, by store.Actor) error {
	return c.post(ctx, exportPath(id)+"/reject", nil, by, nil)
}

// Retry is Direct.Retry.
func (c *Client) Retry(ctx context.Context, id int64, by store.Actor) (int64, error) {
	var ref exportRef
	err := c.post(ctx, exportPath(id)+"/retry", nil, by, &ref)
	return ref.ExportID, err
}

// Pause is Direct.Pause.
func (c *Client) Pause(ctx context.Context, payer string, by store.Actor) ([]string, error) {
	return c.rest(ctx, "pause", payer, by)
}

// Resume is Direct.Resume.
func (c *Client) Resume(ctx context.Context, payer string, by store.Actor) ([]string, error) {
	return c.rest(ctx, "resume", payer, by)
}

func (c *Client) rest(ctx context.Context, act, payer string, by store.Actor) ([]string, error) {
	path := act
	if payer != "" {
		path = "payers/" + url.PathEscape(payer) + "/" + act
	}
	var ref payersRef
	err := c.post(ctx, path, nil, by, &ref)
	return ref.Payers, err
}

// Audit is Direct.Audit.
func (c *Client) Audit(ctx context.Context, f store.AuditFilter, limit int) ([]store.AuditEvent, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	set(query, "action", f.Action)
	set(query, "object", f.Object)
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			query.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	if f.All {
		query.Set("all", "true")
	}
	if f.OldestFirst {
		query.Set("after", strconv.FormatInt(f.After, 10))
	}
	var events []store.AuditEvent
	err := c.get(ctx, "audit", query, &events)
	return events, err
}

func exportPath(id int64) string { return "exports/" + strconv.FormatInt(id, 10) }

func set(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}

func (c *Client) get(ctx context.Context, path string, query url.Values, answer any) error {
	return c.getBy(ctx, path, query, store.Actor{}, answer)
}

// getBy is get, by somebody whose look is an event of the audit.
func (c *Client) getBy(ctx context.Context, path string, query url.Values, by store.Actor, answer any) error {
	at := c.base.JoinPath("api/v1", path)
	at.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	if by != (store.Actor{}) {
		introduce(request, by)
	}
	return c.do(request, answer)
}

func (c *Client) post(ctx context.Context, path string, body any, by store.Actor, answer any) error {
	if body == nil {
		body = struct{}{}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath("api/v1", path).String(), bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	introduce(request, by)
	return c.do(request, answer)
}

// introduce says who asks, for the audit.
func introduce(request *http.Request, by store.Actor) {
	name := by.String()
	if by.Host != "" {
		name += "@" + by.Host
	}
	request.Header.Set(OperatorHeader, fhir.Printable(name, maxOperator))
}

func (c *Client) do(request *http.Request, answer any) error {
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("the daemon does not answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	decoder := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusMultipleChoices {
		if answer == nil {
			return nil
		}
		if err := decoder.Decode(answer); err != nil {
			return fmt.Errorf("the answer of %s is not the admin API's: %w", c.base.Host, err)
		}
		return nil
	}
	p := &Problem{Status: response.StatusCode}
	if err := decoder.Decode(p); err != nil || p.Message == "" {
		return &Problem{
			Code: "no_api", Message: fmt.Sprintf("%s answers %s, which is not the admin API of this version", c.base.Host, response.Status),
			Status: response.StatusCode,
		}
	}
	return p
}
