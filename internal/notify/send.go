package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"ingestd/internal/config"
	"ingestd/internal/outbound"
)

const (
	// quickRetries is how often a request is repeated at once, after a broken connection or a 5xx: a blip.
	quickRetries = 1
	quickPause   = time.Second
	// maxAnswer is how much of an answer is read.
	maxAnswer = 4 << 10
)

// Options are what a Sender needs.
type Options struct {
	Targets []config.Notify
	// Resolve follows the references of the configuration, each time anew.
	Resolve func(ctx context.Context, reference config.Secret) ([]byte, error)
	// Version is that of this binary, for the User-Agent.
	Version string
}

// Sender sends events to the configured targets. It is safe for concurrent use.
type Sender struct {
	options Options
	targets []target
}

type target struct {
	config.Notify
	render render
}

// New returns a Sender. It fails where a target's own template does not fit the events; what their references name is not
// looked at.
func New(o Options) (*Sender, error) {
	s := &Sender{options: o}
	for _, n := range o.Targets {
		r, err := newRender(n)
		if err != nil {
			return nil, fmt.Errorf("notify target %s: %w", n.Name, err)
		}
		s.targets = append(s.targets, target{n, r})
	}
	return s, nil
}

// Wants lists the targets that are to be told an event of a payer.
func (s *Sender) Wants(kind Kind, payer string) []string {
	var names []string
	for _, t := range s.targets {
		if among(t.Events, string(kind)) && among(t.Payers, payer) {
			names = append(names, t.Name)
		}
	}
	return names
}

// among reports whether a list names something; an empty list names all.
func among(list []string, name string) bool {
	return len(list) == 0 || slices.Contains(list, name)
}

// Names lists the targets.
func (s *Sender) Names() []string {
	names := make([]string, 0, len(s.targets))
	for _, t := range s.targets {
		names = append(names, t.Name)
	}
	return names
}

func (s *Sender) find(name string) (target, bool) {
	for _, t := range s.targets {
		if t.Name == name {
			return t, true
		}
	}
	return target{}, false
}

// Answer is what a target answered.
type Answer struct {
	Status int
	// Body is its beginning.
	Body string
	Took time.Duration
	// RetryAfter is when the target asks to be tried again; 0 where it does not say.
	RetryAfter time.Duration
}

// AnswerError says that a target answered, but did not take the event.
type AnswerError struct{ Status int }

func (e *AnswerError) Error() string {
	if e.Status >= 300 && e.Status < 400 {
		return fmt.Sprintf("the target answered HTTP %d: redirects are not followed, set its url to where it leads", e.Status)
	}
	return fmt.Sprintf("the target answered HTTP %d: expected 2xx", e.Status)
}

// Send sends an event to a target: once, and once more after a blip. Each request is signed when it is sent. The error is an
// *AnswerError where the target answered and did not take it. It names no URL.
func (s *Sender) Send(ctx context.Context, name string, e Event) (Answer, error) {
	t, ok := s.find(name)
	if !ok {
		return Answer{}, fmt.Errorf("the configuration has no notify target %q", name)
	}
	body, err := t.render(e)
	if err != nil {
		return Answer{}, err
	}
	address, err := s.address(ctx, t.URL)
	if err != nil {
		return Answer{}, err
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return Answer{}, errors.New("url: cannot be requested")
	}
	request.Header.Set("Content-Type", contentType(body))
	request.Header.Set("User-Agent", "ingestd/"+s.options.Version)
	request.Header.Set(EventHeader, strconv.FormatInt(e.ID, 10))
	if err := s.setHeaders(ctx, request.Header, t.Headers); err != nil {
		return Answer{}, err
	}
	sign := func(*http.Request) error { return nil }
	if t.Secret != "" {
		secret, err := s.options.Resolve(ctx, t.Secret)
		if err != nil {
			return Answer{}, fmt.Errorf("secret: %w", err)
		}
		sign = func(r *http.Request) error {
			r.Header.Set(SignatureHeader, Sign(secret, body, time.Now()))
			return nil
		}
	}
	if err := sign(request.Request); err != nil {
		return Answer{}, err
	}
	return do(request, address, t.Timeout, sign)
}

func do(request *retryablehttp.Request, address string, timeout time.Duration, sign retryablehttp.PrepareRetry) (Answer, error) {
	// The operator named the target, so it may lie in a private network; nothing that it answers leads anywhere else.
	transport, err := outbound.New(outbound.Options{FHIRURL: address, ResponseHeaderTimeout: timeout, MaxConnsPerHost: 1})
	if err != nil {
		return Answer{}, errors.New("url: expected https://…, or http://… to a loopback host")
	}
	defer transport.CloseIdleConnections()
	client := &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: transport, Timeout: timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax: quickRetries, CheckRetry: isBlip, PrepareRetry: sign,
		Backoff:      func(time.Duration, time.Duration, int, *http.Response) time.Duration { return quickPause },
		ErrorHandler: retryablehttp.PassthroughErrorHandler, // the library's own names the URL
	}
	began := time.Now()
	response, err := client.Do(request)
	answer := Answer{Took: time.Since(began)}
	if err != nil {
		if response != nil {
			_ = response.Body.Close() // the error says what came of it
		}
		if named, ok := errors.AsType[*url.Error](err); ok {
			err = named.Err
		}
		return answer, fmt.Errorf("send the event: %w", err)
	}
	defer response.Body.Close()
	answer.Status, answer.RetryAfter = response.StatusCode, retryAfter(response.Header, time.Now())
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	answer.Body, answer.Took = string(text), time.Since(began)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return answer, &AnswerError{Status: response.StatusCode}
	}
	if err != nil && request.Context().Err() != nil {
		return answer, fmt.Errorf("read the answer: %w", err)
	}
	return answer, nil // it was taken, whatever became of the rest of the answer
}

// isBlip reports whether a request is to be repeated at once. A target that answers 429, or 503 with a time, is left alone.
func isBlip(ctx context.Context, response *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if refused, ok := errors.AsType[*outbound.Error](err); ok && refused.Permanent() {
		return false, nil
	}
	if err != nil {
		slow, ok := errors.AsType[net.Error](err)
		return !ok || !slow.Timeout(), nil // one that was slow is not asked to be slow again
	}
	return response.StatusCode >= 500 && response.Header.Get("Retry-After") == "", nil
}

// address is where a target's events are sent.
func (s *Sender) address(ctx context.Context, reference config.Secret) (string, error) {
	if _, _, ok := reference.Reference(); !ok {
		return string(reference), nil
	}
	text, err := s.options.Resolve(ctx, reference)
	if err != nil {
		return "", fmt.Errorf("url: %w", err)
	}
	return string(text), nil
}

func (s *Sender) setHeaders(ctx context.Context, header http.Header, headers map[string]string) error {
	for name, value := range headers {
		if reference := config.Secret(value); isReference(reference) {
			text, err := s.options.Resolve(ctx, reference)
			if err != nil {
				return fmt.Errorf("headers.%s: %w", name, err)
			}
			value = string(text)
		}
		header.Set(name, value)
	}
	return nil
}

func isReference(s config.Secret) bool {
	_, _, ok := s.Reference()
	return ok
}

// contentType is that of a body: a template of one's own need not write JSON.
func contentType(body []byte) string {
	if len(body) > 0 && (body[0] == '{' || body[0] == '[') {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// retryAfter reads Retry-After (RFC 9110, 10.2.3); 0 where there is none to read.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
