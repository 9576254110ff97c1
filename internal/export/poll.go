package export

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ingestd/internal/outbound"
)

// retryAfterMargin is added to the payer's own Retry-After: AB2D refuses a poll that comes exactly on time (POLL-2).
const retryAfterMargin = time.Second

// Status is the payer's answer to a status request.
type Status struct {
	// Complete is true when the export is done and Manifest lists all its files, those of further pages included.
	Complete bool
	// Progress is X-Progress, cut and made printable; Percent is what it says, -1 where that cannot be read. Both are
	// for people only.
	Progress string
	Percent  float64
	// RetryAfter is the payer's own wish, unbounded; 0 where it gave none.
	RetryAfter time.Duration
	// Manifest is set when Complete. While the payer is still at work, it holds the pages that it sends ahead (MAN-8), or
	// is nil.
	Manifest *Manifest
	// Expires is until when the files are kept, zero where the payer does not say.
	Expires time.Time
	// Date is the payer's clock when it answered, zero where it did not say.
	Date time.Time
}

// Poll asks for an export's status, and for the further pages of its manifest where it has any (Bulk Data 3.0, Status
// Request).
func (c *Client) Poll(ctx context.Context, statusURL string) (Status, error) {
	return c.poll(ctx, statusURL, false)
}

// PollSeparate is Poll for an export whose state the payer tells apart from that of the request (KickOff.SeparateStatus).
func (c *Client) PollSeparate(ctx context.Context, statusURL string) (Status, error) {
	return c.poll(ctx, statusURL, true)
}

func (c *Client) poll(ctx context.Context, statusURL string, separate bool) (Status, error) {
	status, err := c.pollOnce(ctx, statusURL, separate, outbound.EndpointStatus)
	if err != nil || status.Manifest == nil {
		return status, err
	}
	return c.followPages(ctx, statusURL, separate, status)
}

// pollOnce asks once; page says whether it is for the status itself or for a further page.
func (c *Client) pollOnce(ctx context.Context, statusURL string, separate bool, page outbound.Endpoint) (Status, error) {
	u, err := c.ownStatusURL(statusURL)
	if err != nil {
		return Status{}, &Error{
			Phase: PhaseStatus, Code: CodeURLRefused, Action: ActionFail,
			Detail: "refused the status URL: " + err.Error(), Err: err,
			Hint: "if fhir_url or download_hosts changed, cancel this export and start a new one",
		}
	}
	response, from, err := c.do(ctx, call{
		phase:  PhaseStatus,
		method: http.MethodGet,
		url:    u,
		header: http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}},
		token:  true, idempotent: true, endpoint: page,
	})
	if err != nil {
		return Status{}, err
	}
	status := Status{
		RetryAfter: retryAfter(response.Header, time.Now()),
		Expires:    filesExpire(response.Header, time.Now()),
		Date:       responseDate(response.Header),
	}
	status.Progress, status.Percent = parseProgress(response.Header.Get("X-Progress"))
	if separate && response.StatusCode > 299 {
		return Status{}, ofTheRequest(c.refused(PhaseStatus, response, true))
	}
	response.StatusCode = exportStatus(response, separate)
	switch {
	case response.StatusCode == http.StatusAccepted, response.StatusCode == http.StatusOK && stillRunning(response.Header):
		defer drain(response)
		status.Manifest = c.earlyPage(response, from)
		return status, nil
	case response.StatusCode != http.StatusOK:
		return Status{}, c.refused(PhaseStatus, response, true)
	}
	defer drain(response)
	status.Manifest, err = c.readManifest(ctx, response, from)
	if err != nil {
		return Status{}, err
	}
	status.Complete = true
	return status, nil
}

// ownStatusURL reads a status URL that was stored. It is checked again, because the configuration may have changed.
func (c *Client) ownStatusURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() {
		return nil, errors.New("it is no absolute URL")
	}
	return c.statusURL(u, text)
}

// stillRunning reports whether a 200 only says that the status is known: with separate-export-status the state of the
// export itself stands in X-Export-Status (POLL-8). An export that runs is never taken for a complete one.
func stillRunning(header http.Header) bool {
	return strings.HasPrefix(strings.TrimSpace(header.Get("X-Export-Status")), "202")
}

// earlyPage reads the page of a manifest that may come while the payer is still at work. Anything else in the body is of
// no account: 202 says enough.
func (c *Client) earlyPage(response *http.Response, from *url.URL) *Manifest {
	body, err := openBounded(response, c.maxManifestBytes)
	if err != nil {
		return nil
	}
	manifest, err := c.parseManifest(body, from)
	if err != nil || c.checkFiles(manifest) != nil {
		return nil
	}
	return manifest
}

// readManifest reads the manifest of a 200 answer.
func (c *Client) readManifest(ctx context.Context, response *http.Response, from *url.URL) (*Manifest, error) {
	contentType := response.Header.Get("Content-Type")
	body, err := openBounded(response, c.maxManifestBytes)
	if err != nil {
		return nil, c.manifestError(ctx, contentType, nil, err)
	}
	start := &headReader{from: body}
	manifest, err := c.parseManifest(start, from)
	if err == nil {
		err = c.checkFiles(manifest)
	}
	if err != nil {
		return nil, c.manifestError(ctx, contentType, start, err)
	}
	for _, warning := range manifest.Warnings {
		c.logger.WarnContext(ctx, "the manifest is not as the guide has it", "payer", c.payer.Name, "detail", warning)
	}
	return manifest, nil
}

// PollDelay returns how long to wait before the next status request: the payer's Retry-After with a margin, or, where it
// gives none, exponentially longer with jitter; always within limits.poll_min and limits.poll_max (POLL-2). The argument
// polls is how many status requests have been made.
func (c *Client) PollDelay(s Status, polls int) time.Duration {
	low, high := c.pollBounds()
	if s.RetryAfter > 0 {
		return min(max(s.RetryAfter+retryAfterMargin, low), high)
	}
	return backoff(max(polls-1, 0), low, high)
}

// RetryDelay returns how long a payer is left alone that asks for patience: never less than it says, with a margin, nor than
// limits.poll_min; where it does not say, exponentially longer up to limits.poll_max (POLL-4). The argument attempts counts how often
// it asked, from 1.
func (c *Client) RetryDelay(e *Error, attempts int) time.Duration {
	low, high := c.pollBounds()
	if e != nil && e.RetryAfter > 0 {
		return max(e.RetryAfter+retryAfterMargin, low)
	}
	return backoff(max(attempts-1, 0), low, high)
}

func (c *Client) pollBounds() (low, high time.Duration) {
	low, high = c.payer.Limits.PollMin, c.payer.Limits.PollMax
	if low <= 0 {
		low = time.Second
	}
	return low, max(low, high)
}

// headReader keeps the start of what is read, for an error that says what came.
type headReader struct {
	from io.Reader
	head []byte
}

func (h *headReader) Read(p []byte) (int, error) {
	n, err := h.from.Read(p)
	if room := 4<<10 - len(h.head); room > 0 {
		h.head = append(h.head, p[:min(n, room)]...)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}
