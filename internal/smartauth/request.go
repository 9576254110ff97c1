package smartauth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// tokenRequest is one attempt to get a token, with the credentials that it uses.
type tokenRequest struct {
	registration *Registration
	endpoint     string
	scopes       []string
	key          *Key // for private_key_jwt
	kid          string
	algorithm    algorithm
	skew         *clockSkew
	ownClock     bool // the assertion is dated by this machine's clock, whatever skew says
	timeout      time.Duration
}

// outcome is what an attempt learned besides the token.
type outcome struct {
	response tokenResponse
	sent     time.Time
	// offset is the clock skew after the answer, skewChanged whether it was learned from it.
	offset      time.Duration
	skewChanged bool
}

// send makes one attempt: one assertion, one request, no retry and no redirect.
func (r tokenRequest) send(ctx context.Context) (outcome, *Error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	result := outcome{sent: time.Now()}
	request, credentials, err := r.build(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return result, r.failure(ctx, err)
		}
		return result, r.describe(&Error{Code: CodeCredential, Hint: hintFor(CodeCredential), cause: err})
	}
	response, err := r.registration.Transport.RoundTrip(request)
	if err != nil {
		return result, r.failure(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := readAnswer(response.Body, maxResponse)
	received := time.Now()
	result.offset, result.skewChanged = r.skew.observe(response.Header, result.sent, received)
	if errors.Is(err, errTooLong) {
		return result, r.describe(&Error{
			Code: CodeBadResponse, Status: response.StatusCode, Temporary: response.StatusCode >= 500,
			Description: "the answer is longer than 1 MiB", Hint: hintFor(CodeBadResponse),
		})
	}
	if err != nil && (response.StatusCode < 300 || len(body) == 0) {
		return result, r.failure(ctx, err)
	}
	if response.StatusCode < 200 || response.StatusCode >= 300 {
		return result, r.describe(parseErrorResponse(response.StatusCode, response.Header, body, received, credentials...))
	}
	if code, _ := oauthError(body); code != "" { // 200 with an error in it
		refusal := parseErrorResponse(http.StatusBadRequest, response.Header, body, received, credentials...)
		refusal.Status = response.StatusCode
		return result, r.describe(refusal)
	}
	result.response, err = parseTokenResponse(body)
	if err != nil {
		return result, r.describe(&Error{
			Code: CodeBadResponse, Status: response.StatusCode, Temporary: true,
			Description: err.Error(), Hint: hintFor(CodeBadResponse),
		})
	}
	return result, nil
}

// build makes the request (SMART App Launch 2.2, Backend Services, Request Access Token), with the credentials in it that
// must not come back in an error.
func (r tokenRequest) build(ctx context.Context) (*http.Request, []string, error) {
	registration := r.registration
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(r.scopes) > 0 {
		form.Set("scope", strings.Join(r.scopes, " "))
	}
	header := http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/x-www-form-urlencoded"},
	}
	var credentials []string
	switch registration.Method {
	case MethodPrivateKeyJWT:
		audience := registration.Audience
		if audience == "" {
			audience = r.endpoint
		}
		signed, err := assertion{
			ClientID: registration.ClientID,
			Audience: audience,
			Kid:      r.kid,
			JKU:      registration.JKU,
			Now:      r.skew.now(r.ownClock),
		}.sign(r.key, r.algorithm)
		if err != nil {
			return nil, nil, err
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", signed)
		if registration.SendClientID {
			form.Set("client_id", registration.ClientID)
		}
		credentials = []string{signed}
	case MethodClientSecretBasic, MethodClientSecretPost:
		clientSecret, err := registration.ClientSecret(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("resolve the client secret: %w", err)
		}
		if clientSecret == "" {
			return nil, nil, errors.New("the client secret is empty")
		}
		credentials = []string{clientSecret, url.QueryEscape(clientSecret)}
		if registration.Method == MethodClientSecretPost {
			form.Set("client_id", registration.ClientID)
			form.Set("client_secret", clientSecret)
			break
		}
		header.Set("Authorization", basicAuthorization(registration.ClientID, clientSecret, registration.RawBasic))
		credentials = append(credentials, strings.TrimPrefix(header.Get("Authorization"), "Basic "))
	}
	body := form.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.endpoint, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return nil, nil, errors.New("the token endpoint's URL cannot be requested")
	}
	// Without GetBody no layer below can send the assertion a second time; a retry comes back here and signs a new one.
	request.ContentLength = int64(len(body))
	request.Header = header
	if base, err := url.Parse(registration.FHIRURL); err == nil {
		headersFor(request, originOf(base), registration.Headers)
	}
	return request, credentials, nil
}

// basicAuthorization is HTTP Basic with id and secret form-encoded, as RFC 6749 section 2.3.1 wants them, or raw.
func basicAuthorization(id, clientSecret string, raw bool) string {
	if !raw {
		id, clientSecret = url.QueryEscape(id), url.QueryEscape(clientSecret)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+clientSecret))
}

// failure describes a request that got no answer.
func (r tokenRequest) failure(ctx context.Context, err error) *Error {
	e := &Error{Code: CodeNetwork, Temporary: true, cause: withoutURL(err)}
	var netErr net.Error
	var dnsErr *net.DNSError
	e.rediscover = errors.As(err, &dnsErr) && dnsErr.IsNotFound
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || (errors.As(err, &netErr) && netErr.Timeout()) {
		e.Code = CodeTimeout
	}
	e.Hint = hintFor(e.Code)
	if problem, fix := explainTLS(err); problem != "" {
		e.Description, e.Hint = problem, fix
	}
	return r.describe(e)
}

func (r tokenRequest) describe(e *Error) *Error {
	e.Payer, e.Host = r.registration.Payer, hostOf(r.endpoint)
	return e
}

// withoutURL drops the URL that net/http puts into its errors, and what they quote of an answer, such as a Location that cannot be
// read: a query may hold anything.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	return unquoting{err}
}

// unquoting is an error whose text ends where it quotes something.
type unquoting struct{ error }

func (u unquoting) Error() string {
	text, _, quotes := strings.Cut(u.error.Error(), `"`)
	if quotes {
		text = strings.TrimRight(text, " :;[{(=") + " …"
	}
	return text
}

func (u unquoting) Unwrap() error { return u.error }

var errTooLong = errors.New("longer than the limit")

// readAnswer is readBounded for what a server says. Compression is undone, since nothing forbids a server to compress for who does
// not speak of encodings (RFC 9110, section 12.5.3), and the bytes tell it; a byte order mark is dropped.
func readAnswer(body io.Reader, limit int64) ([]byte, error) {
	buffered := bufio.NewReader(body)
	start, _ := buffered.Peek(2) // an error comes back with the first read
	if string(start) != "\x1f\x8b" {
		data, err := readBounded(buffered, limit)
		return withoutBOM(data), err
	}
	unzipped, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	data, err := readBounded(unzipped, limit)
	return withoutBOM(data), err
}

func withoutBOM(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\ufeff")) }

// readBounded reads to the end, but no more than limit bytes.
func readBounded(body io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return data, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(data)) > limit {
		return data[:limit], errTooLong
	}
	return data, nil
}
