package smartauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxResponse bounds what is read of an answer of a token endpoint or a discovery document.
	maxResponse = 1 << 20
	// maxTokenLength bounds an access token: servers limit headers to less.
	maxTokenLength = 64 << 10

	// lifeUnknown is taken where the answer has no expires_in: the specification's recommended maximum
	// (SMART App Launch 2.2, Backend Services, Issue Access Token).
	lifeUnknown = 5 * time.Minute
	// lifeNone is taken where expires_in is zero or less: long enough for the callers that wait to share the token, too
	// short for it to be eternal, and not zero, which would ask for a token for every request.
	lifeNone = 10 * time.Second
	// lifeMax caps absurdly long lives.
	lifeMax = 24 * time.Hour
)

// tokenResponse is a successful answer of a token endpoint (RFC 6749 section 5.1).
type tokenResponse struct {
	value    secret
	life     time.Duration
	lifeNote string // why life is not what the server said
	scopes   []string
	hasScope bool // the answer names scopes; without it the scopes asked for are granted
}

// parseTokenResponse reads the body of a 200. A refresh token is ignored: backend services ask again with a new assertion.
// Errors quote nothing of the body.
func parseTokenResponse(body []byte) (tokenResponse, error) {
	var fields struct {
		AccessToken json.RawMessage `json:"access_token"`
		TokenType   json.RawMessage `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		Scope       json.RawMessage `json:"scope"`
	}
	if err := json.Unmarshal(body, &fields); err != nil {
		return tokenResponse{}, errors.New("the answer is not a JSON object")
	}
	value, ok := jsonString(fields.AccessToken)
	if !ok || value == "" {
		return tokenResponse{}, errors.New("the answer has no access_token")
	}
	if len(value) > maxTokenLength {
		return tokenResponse{}, fmt.Errorf("the access_token has %d bytes: at most %d can be sent", len(value), maxTokenLength)
	}
	if i := strings.IndexFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return tokenResponse{}, errors.New("the access_token holds characters that no header may have")
	}
	// token_type is often left out or misspelt; only a type that is surely another one is refused.
	if kind, ok := jsonString(fields.TokenType); ok && !isBearer(strings.TrimSpace(kind)) {
		return tokenResponse{}, fmt.Errorf("the token_type is %q: only bearer tokens can be used", clean(kind, 40, value))
	}
	response := tokenResponse{value: newSecret(value)}
	response.life, response.lifeNote = parseLife(fields.ExpiresIn)
	if scope, ok := jsonString(fields.Scope); ok {
		response.scopes, response.hasScope = strings.Fields(scope), true
	} else if list := jsonStrings(fields.Scope); list != nil { // some servers send an array
		response.scopes, response.hasScope = list, true
	}
	return response, nil
}

// isBearer tells a bearer token's type, in any case; Apigee, which many payers have before their servers, calls it BearerToken.
func isBearer(kind string) bool {
	return kind == "" || strings.EqualFold(kind, "bearer") || strings.EqualFold(kind, "BearerToken")
}

// parseLife reads expires_in in every form that servers send: a number, a float, a string of either, nothing.
func parseLife(raw json.RawMessage) (life time.Duration, note string) {
	text := strings.TrimSpace(string(raw))
	if unquoted, ok := jsonString(raw); ok {
		text = strings.TrimSpace(unquoted)
	}
	if text == "" || text == "null" {
		return lifeUnknown, "no expires_in"
	}
	seconds, err := strconv.ParseFloat(text, 64)
	switch {
	case (err != nil && !errors.Is(err, strconv.ErrRange)) || math.IsNaN(seconds):
		return lifeUnknown, "expires_in is not a number"
	case seconds <= 0:
		return lifeNone, "expires_in is not positive"
	case seconds > lifeMax.Seconds():
		return lifeMax, "expires_in is longer than a day"
	}
	return max(time.Duration(seconds*float64(time.Second)), time.Second), ""
}

// parseErrorResponse reads the body of a refusal, whatever it is: OAuth's JSON (RFC 6749 section 5.2), a framework's JSON,
// plain text, HTML, nothing. Anything in credentials is cut out of what the server says.
func parseErrorResponse(status int, header http.Header, body []byte, now time.Time, credentials ...string) *Error {
	e := &Error{Status: status, RetryAfter: parseRetryAfter(header, now)}
	code, description := oauthError(body)
	code = clean(code, 60, credentials...)
	switch {
	case status == http.StatusTooManyRequests:
		e.Code, e.Temporary = CodeRateLimited, true
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly:
		e.Code, e.Temporary = CodeTimeout, true
	case status >= 500:
		e.Code, e.Temporary = CodeServerError, true
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusGone:
		e.Code, e.rediscover = CodeEndpointMissing, true
	case status >= 300 && status < 400:
		e.Code = CodeRedirected
	case code == "temporarily_unavailable" || code == "server_error":
		e.Code, e.Temporary = CodeServerError, true
	case code != "":
		e.Code = code
	case status < 300:
		e.Code, e.Temporary = CodeBadResponse, true
	default:
		e.Code = CodeRejected
	}
	e.Description = clean(description, 200, credentials...)
	e.Hint = hintFor(e.Code)
	return e
}

// oauthError finds the code and the words of a refusal. A code is taken only from the member that OAuth defines.
func oauthError(body []byte) (code, description string) {
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		return "", ""
	}
	if trimmed[0] == '{' {
		var fields map[string]json.RawMessage
		if json.Unmarshal(trimmed, &fields) == nil {
			code, _ = jsonString(fields["error"])
			for _, name := range []string{"error_description", "message", "detail", "error_uri"} {
				if text, ok := jsonString(fields[name]); ok && text != "" {
					return code, text
				}
			}
			return code, ""
		}
	}
	if trimmed[0] == '<' {
		return "", "the server answered with a page of markup"
	}
	return "", string(trimmed[:min(len(trimmed), 400)])
}

func jsonString(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return "", false
	}
	return text, true
}

// jsonStrings reads an array, keeping what is a string; nil if it is none.
func jsonStrings(raw json.RawMessage) []string {
	if len(raw) == 0 || raw[0] != '[' {
		return nil
	}
	var values []json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return nil
	}
	texts := make([]string, 0, len(values))
	for _, value := range values {
		if text, ok := jsonString(value); ok {
			texts = append(texts, text)
		}
	}
	return texts
}
