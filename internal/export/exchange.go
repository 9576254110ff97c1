package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"ingestd/internal/fhir"
	"ingestd/internal/outbound"
	"ingestd/internal/smartauth"
)

const (
	// maxRedirects bounds one exchange (FILE-3).
	maxRedirects = 5
	// quickRetries and the waits between them bound what is retried within one exchange. All longer waits are the caller's:
	// they must not hold a worker (ERR-2).
	quickRetries   = 2
	quickRetryWait = 200 * time.Millisecond
	quickRetryMost = time.Second
	// maxErrorBody is how much of an error's body is read (ERR-1).
	maxErrorBody = fhir.MaxOutcomeBytes
	// errorBodyTime bounds how long an error's body is waited for, and drainTime how long what is left of a body that nobody
	// needs.
	errorBodyTime = 30 * time.Second
	drainTime     = 2 * time.Second
)

// lane is a way out: with or without the token. Neither follows redirects.
type lane struct {
	once  *http.Client          // sends a request exactly once
	quick *retryablehttp.Client // repeats idempotent requests after a broken connection
}

func newLane(transport http.RoundTripper) lane {
	once := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	quick := retryablehttp.NewClient()
	quick.HTTPClient = once
	quick.Logger = nil
	quick.RetryMax = quickRetries
	quick.RetryWaitMin, quick.RetryWaitMax = quickRetryWait, quickRetryMost
	quick.CheckRetry = func(ctx context.Context, _ *http.Response, err error) (bool, error) {
		return ctx.Err() == nil && brokenConnection(err), nil
	}
	quick.Backoff = func(low, high time.Duration, attempt int, _ *http.Response) time.Duration {
		return backoff(attempt, low, high)
	}
	quick.ErrorHandler = func(response *http.Response, err error, _ int) (*http.Response, error) { return response, err }
	return lane{once: once, quick: quick}
}

// send sends a request; an idempotent one again at once after a broken connection.
func (l lane) send(request *http.Request, idempotent bool) (*http.Response, error) {
	if !idempotent {
		return l.once.Do(request) //nolint:wrapcheck // sendError classifies and wraps
	}
	repeatable, err := retryablehttp.FromRequest(request)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	return l.quick.Do(repeatable) //nolint:wrapcheck // sendError classifies and wraps
}

// brokenConnection reports whether err is the kind of failure that the next connection may not have.
func brokenConnection(err error) bool {
	if out, ok := errors.AsType[*outbound.Error](err); ok {
		return out.Code == outbound.CodeReset || out.Code == outbound.CodeRefused
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED)
}

// call is one exchange: a request and the redirects that it leads to.
type call struct {
	phase  Phase
	method string
	url    *url.URL
	header http.Header
	body   []byte
	// token asks for the access token wherever it may be sent.
	token bool
	// idempotent requests are repeated at once after a broken connection.
	idempotent bool
	// endpoint is what the request is counted as, where the phase does not say it.
	endpoint outbound.Endpoint
}

// do sends the request and follows redirects. The response's body is the caller's to close; the URL is where it came from.
func (c *Client) do(ctx context.Context, call call) (*http.Response, *url.URL, error) {
	target := call.url
	for hop := 0; ; hop++ {
		response, err := c.send(ctx, call, target)
		if err != nil {
			return nil, nil, c.sendError(ctx, call.phase, err)
		}
		location := response.Header.Get("Location")
		if !isRedirect(response.StatusCode) || location == "" {
			return response, target, nil
		}
		drain(response)
		next, err := c.redirect(call, target, response.StatusCode, location)
		if err == nil && hop >= maxRedirects {
			err = fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if err != nil {
			return nil, nil, &Error{
				Phase: call.phase, Code: CodeRedirectRefused, Status: response.StatusCode, Action: ActionFail,
				Detail: "refused a redirect from " + target.Hostname() + ": " + err.Error(),
			}
		}
		target = next
	}
}

// send sends the request to one target, with the token and the payer's own headers only where they may go.
func (c *Client) send(ctx context.Context, call call, target *url.URL) (*http.Response, error) {
	endpoint := call.endpoint
	if endpoint == "" {
		endpoint = call.phase.endpoint()
	}
	ctx, cancel := context.WithCancelCause(outbound.For(ctx, endpoint))
	request, err := c.request(ctx, call, target)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	way := c.plain
	if call.token && c.mayHaveToken(target) {
		way = c.authorized
	}
	response, err := way.send(request, call.idempotent)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response.Body = newIdleReader(ctx, cancel, response.Body, c.idleTimeout)
	return response, nil
}

// request makes the request to one target.
func (c *Client) request(ctx context.Context, call call, target *url.URL) (*http.Request, error) {
	var body io.Reader
	if call.body != nil {
		body = bytes.NewReader(call.body)
	}
	request, err := http.NewRequestWithContext(ctx, call.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	maps.Copy(request.Header, call.header)
	request.Header.Set("User-Agent", c.userAgent)
	if c.atBase(target) {
		for name, value := range c.payer.Export.Headers {
			request.Header.Set(name, value)
		}
	}
	return request, nil
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirect checks where a redirect leads. A request that changes something at the payer is repeated only where it was
// meant for: at an origin that may have the token.
func (c *Client) redirect(call call, from *url.URL, status int, location string) (*url.URL, error) {
	next, err := c.resolve(from, location)
	if err != nil {
		return nil, err
	}
	if from.Scheme == "https" && next.Scheme == "http" {
		return nil, errors.New("it leads from https to http")
	}
	changes := call.phase == PhaseKickOff || call.method != http.MethodGet
	if changes && !c.mayHaveToken(next) {
		return nil, errors.New("it leads to " + next.Hostname() + ", which the configuration does not list with token: true")
	}
	if call.method != http.MethodGet && status != http.StatusTemporaryRedirect && status != http.StatusPermanentRedirect {
		return nil, fmt.Errorf("HTTP %d would turn %s into GET", status, call.method)
	}
	return next, nil
}

// sendError classifies a request that got no response. The end of ctx is not a failure of the payer and comes back as it is.
func (c *Client) sendError(ctx context.Context, phase Phase, err error) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%s: %w", phase, context.Cause(ctx))
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	e := &Error{Phase: phase, Action: ActionRetry, Err: err}
	var (
		auth *smartauth.Error
		out  *outbound.Error
	)
	switch {
	case errors.As(err, &auth):
		e.Code, e.Detail, e.Hint, e.RetryAfter = CodeAuthorization, auth.Error(), auth.Hint, auth.RetryAfter
		if !auth.Temporary && phase == PhaseKickOff {
			e.Action = ActionFail // nothing is lost; of an export that runs, the payer's work is, and such a refusal may pass (TOK-5)
		}
		return e
	case errors.As(err, &out):
		e.Code, e.Detail, e.Hint = out.Code, out.Error(), out.Hint
		if out.Permanent() {
			e.Action = ActionFail
		}
		e.MaybeStarted = phase == PhaseKickOff && !out.Unsent
	default:
		e.Code, e.Detail = outbound.CodeConnection, outbound.Words(err) // net/http quotes a Location that it cannot read
		var op *net.OpError
		e.MaybeStarted = phase == PhaseKickOff && !(errors.As(err, &op) && op.Op == "dial")
	}
	if e.MaybeStarted {
		e.Code = CodeUnanswered
		e.Hint = "the payer may have started an export all the same; if the next attempt finds one running, it is taken over"
	}
	return e
}

// refused turns a response that is no success into an *Error, reads its OperationOutcome and closes its body.
func (c *Client) refused(phase Phase, response *http.Response, withToken bool) *Error {
	defer drain(response)
	stop := within(response.Body, errorBodyTime)
	data, _ := readBounded(response, maxErrorBody) // what came is enough: the status says the rest
	stop()
	outcome, _ := fhir.ParseOutcome(data)
	v := classify(phase, response.StatusCode, outcome, withToken)
	if phase == PhaseStatus && v.code == CodeForbidden && isPage(data) { // servers answer in FHIR, or nothing
		v.action, v.hint = ActionRetry, "a firewall or a proxy may have answered in the payer's place"
	}
	e := &Error{
		Phase:      phase,
		Code:       v.code,
		Status:     response.StatusCode,
		Action:     v.action,
		Grace:      v.grace,
		RetryAfter: retryAfter(response.Header, time.Now()),
		Outcome:    outcome,
		Detail:     v.detail,
		Hint:       v.hint,
	}
	if outcome == nil && len(data) > 0 {
		e.Detail += ", with " + describe(response.Header.Get("Content-Type"), data)
		e.Excerpt = excerpt(data)
	}
	return e
}

// drain reads what little may be left of a body, so that its connection can be used again, and closes it.
func drain(response *http.Response) {
	const enough = 64 << 10
	defer within(response.Body, drainTime)()
	_, _ = io.CopyN(io.Discard, response.Body, enough)
	_ = response.Body.Close() // nothing was written
}
