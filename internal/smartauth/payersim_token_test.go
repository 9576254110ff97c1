package smartauth_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// recorder sees all that is sent, credentials included.
type recorder struct {
	mu          sync.Mutex
	credentials []string
	requests    int
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.requests++
	if value := request.Header.Get("Authorization"); value != "" {
		_, credential, _ := strings.Cut(value, " ")
		r.credentials = append(r.credentials, credential)
	}
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			r.mu.Unlock()
			return nil, err
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil {
			for _, name := range []string{"client_assertion", "client_secret"} {
				if value := form.Get(name); value != "" {
					r.credentials = append(r.credentials, value)
				}
			}
		}
	}
	r.mu.Unlock()
	return http.DefaultTransport.RoundTrip(request)
}

func TestJWT5_every_attempt_signs_anew_whatever_became_of_the_last(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Answers: []payersim.Answer{
		{Reset: "unread"}, {Reset: "granted"}, {Silence: 5 * time.Second},
	}}, payersim.Options{}, simKey())
	p.mustBeAccepted(p.source(nil, simKey()))
	stats := p.Stats()
	if stats.JTIs != 4 || stats.TokensRefused != 0 || stats.TokensIssued != 2 {
		t.Errorf("got %d assertions used up, %d refused requests and %d tokens; want 4, none for a used jti, and 2 of which one was lost",
			stats.JTIs, stats.TokensRefused, stats.TokensIssued)
	}
}

func TestTOK3_every_form_of_expires_in_at_a_real_server(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value    any // nil: left out
		low, top time.Duration
	}{
		"number":   {900, 15*time.Minute - time.Second, 15 * time.Minute},
		"string":   {"1200", 20*time.Minute - time.Second, 20 * time.Minute},
		"float":    {299.5, 298 * time.Second, 300 * time.Second},
		"missing":  {nil, 4 * time.Minute, 5 * time.Minute},
		"zero":     {0, time.Second, time.Minute},
		"negative": {-5, time.Second, time.Minute},
		"huge":     {1_000_000_000, 23 * time.Hour, 24 * time.Hour},
		"a word":   {"soon", 4 * time.Minute, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := simulate(t, payersim.TokenFaults{Members: map[string]any{"expires_in": test.value}},
				payersim.Options{TokenLifetime: time.Hour}, simKey())
			source := p.source(nil, simKey())
			token := p.mustBeAccepted(source)
			if life := token.Expires.Sub(token.Obtained); life < test.low || life > test.top {
				t.Errorf("life: got %s, want %s to %s", life, test.low, test.top)
			}
			for range 20 {
				p.mustBeAccepted(source)
			}
			if got := p.Stats().TokensIssued; got != 1 {
				t.Errorf("20 requests took %d tokens, want one", got)
			}
		})
	}
}

func TestUSE1_the_header_says_Bearer_whatever_the_token_type_was(t *testing.T) {
	t.Parallel()
	for _, kind := range []any{"BEARER", "Bearer", "bEaReR", nil} {
		p := simulate(t, payersim.TokenFaults{Members: map[string]any{"token_type": kind}}, payersim.Options{}, simKey())
		p.mustBeAccepted(p.source(nil, simKey())) // the simulator matches "Bearer " with a capital B (USE-1)
	}
}

func TestTOK8_a_refresh_token_is_never_used(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Members: map[string]any{"refresh_token": "never"}}, payersim.Options{}, simKey())
	sent := &recorder{}
	source := p.source(func(r *smartauth.Registration) { r.Transport = sent }, simKey())
	p.mustBeAccepted(source)
	p.RevokeTokens()
	p.mustBeAccepted(source) // a form with a refresh_token, or another grant, would have been refused
	if stats := p.Stats(); stats.TokensIssued != 2 || stats.TokensRefused != 0 {
		t.Errorf("got %d tokens and %d refusals, want 2 and none", stats.TokensIssued, stats.TokensRefused)
	}
}

func TestTOK5_refusals_are_typed_and_not_hammered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer payersim.Answer
		code   string
	}{
		"OAuth JSON":           {payersim.Answer{Status: 400, Body: `{"error":"unauthorized_client"}`}, "unauthorized_client"},
		"description null":     {payersim.Answer{Status: 401, Body: `{"error":"invalid_client","error_description":null}`}, "invalid_client"},
		"only error_uri":       {payersim.Answer{Status: 400, Body: `{"error":"invalid_grant","error_uri":"https://e"}`}, "invalid_grant"},
		"framework JSON":       {payersim.Answer{Status: 401, Body: `{"code":401,"message":"no"}`}, smartauth.CodeRejected},
		"plain text":           {payersim.Answer{Status: 400, Body: "Bad Request"}, smartauth.CodeRejected},
		"HTML":                 {payersim.Answer{Status: 403, Body: "<html>"}, smartauth.CodeRejected},
		"nothing":              {payersim.Answer{Status: 400}, smartauth.CodeRejected},
		"an error under 200":   {payersim.Answer{Body: `{"error":"invalid_client"}`}, "invalid_client"},
		"more than a megabyte": {payersim.Answer{Body: "{", Padding: 3 << 20}, smartauth.CodeBadResponse},
		"redirect to the outside": {
			payersim.Answer{Status: 307, Headers: map[string]string{"Location": "http://127.0.0.1:1/"}},
			smartauth.CodeRedirected,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.answer.Times = -1
			p := simulate(t, payersim.TokenFaults{Answers: []payersim.Answer{test.answer}}, payersim.Options{}, simKey())
			source := p.source(nil, simKey())
			for range 20 {
				failure := p.refusal(source)
				if failure.Code != test.code || failure.Hint == "" || failure.Temporary {
					t.Fatalf("got %v (temporary %t, hint %q), want %s for good", failure, failure.Temporary, failure.Hint, test.code)
				}
			}
			if got := p.Stats().JTIs; got > 2 {
				t.Errorf("20 callers made %d requests, want at most 2", got)
			}
		})
	}
}

func TestTOK5_a_bare_400_in_passing_is_not_noticed(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Answers: []payersim.Answer{{Status: 400}}}, payersim.Options{}, simKey())
	p.mustBeAccepted(p.source(nil, simKey()))
}

func TestTOK5_RetryAfter_is_obeyed(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Answers: []payersim.Answer{
		{Status: 503, Headers: map[string]string{"Retry-After": "2"}},
	}}, payersim.Options{}, simKey())
	start := time.Now()
	p.mustBeAccepted(p.source(nil, simKey()))
	if waited := time.Since(start); waited < 2*time.Second {
		t.Errorf("asked again after %s, want 2 s at least", waited)
	}
}

func TestTOK_every_refusal_of_a_strict_server_names_what_is_wrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit       func(*smartauth.Registration)
		key        *smartauth.Key
		code, says string
	}{
		"JWT-2 another client_id": {func(r *smartauth.Registration) { r.ClientID = "someone" }, simKey(), "invalid_client", "registered"},
		"JWT-3 another audience":  {func(r *smartauth.Registration) { r.Audience = r.FHIRURL }, simKey(), "invalid_client", "aud"},
		"JWT-1 an unknown kid":    {func(r *smartauth.Registration) { r.Kid = "other" }, simKey(), "invalid_client", "kid"},
		"an unknown key":          {nil, newKey(), "invalid_client", "kid"},
		"TOK-2 no such scope":     {func(r *smartauth.Registration) { r.Scopes = []string{"clientCreds"} }, simKey(), "invalid_scope", "clientCreds"},
		"a secret it has not": {func(r *smartauth.Registration) {
			r.Method, r.Keys = smartauth.MethodClientSecretBasic, nil
			r.ClientSecret = func(context.Context) (string, error) { return "x", nil }
		}, simKey(), "invalid_client", "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey())
			failure := p.refusal(p.source(test.edit, test.key))
			if failure.Code != test.code || !strings.Contains(failure.Description, test.says) || failure.Hint == "" {
				t.Errorf("got %v (hint %q), want %s that says %q", failure, failure.Hint, test.code, test.says)
			}
		})
	}
}

func TestTOK6_secrets_of_every_form_are_accepted_by_a_strict_server(t *testing.T) {
	t.Parallel()
	const clientSecret = "a:b%+c d/ü"
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{Clients: []payersim.Client{
		{ID: "basic:id", Secret: clientSecret},
		{ID: "raw", Secret: clientSecret, RawSecret: true},
		{ID: "form", Secret: clientSecret, SecretInForm: true},
		{ID: "ab2d", Secret: clientSecret, ExactScope: "clientCreds"},
	}})
	for id, edit := range map[string]func(*smartauth.Registration){
		"basic:id": func(r *smartauth.Registration) { r.Method = smartauth.MethodClientSecretBasic },
		"raw": func(r *smartauth.Registration) {
			r.Method, r.RawBasic = smartauth.MethodClientSecretBasic, true
		},
		"form": func(r *smartauth.Registration) { r.Method = smartauth.MethodClientSecretPost },
		"ab2d": func(r *smartauth.Registration) {
			r.Method, r.Scopes = smartauth.MethodClientSecretBasic, []string{"clientCreds"}
		},
	} {
		p.mustBeAccepted(p.source(func(r *smartauth.Registration) {
			r.ClientID = id
			r.ClientSecret = func(context.Context) (string, error) { return clientSecret, nil }
			edit(r)
		}))
	}
	if got := p.Stats().TokensRefused; got != 0 {
		t.Errorf("%d requests were refused", got)
	}
}

func TestTOK9_no_log_or_error_of_a_run_with_faults_holds_a_credential(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Answers: []payersim.Answer{
		{Status: 503}, {Reset: "granted"}, {Status: 400, Body: `{"error":"invalid_request"}`},
	}}, payersim.Options{}, simKey())
	sent := &recorder{}
	source := p.source(func(r *smartauth.Registration) { r.Transport = sent }, simKey())
	p.mustBeAccepted(source)
	p.RevokeTokens()
	p.mustBeAccepted(source)
	if err := p.SetFaults(payersim.Faults{Token: payersim.TokenFaults{RefuseAll: true, Answers: []payersim.Answer{{Times: -1, Status: 401}}}}); err != nil {
		t.Fatal(err)
	}
	_, err := tryKickOff(t, source, p.url+"/fhir")
	p.manager.Close()
	text := p.log.String()
	if err != nil {
		text += err.Error()
	}
	sent.mu.Lock()
	defer sent.mu.Unlock()
	if len(sent.credentials) < 5 || len(text) == 0 {
		t.Fatalf("saw %d credentials and %d bytes of log: the test is blind", len(sent.credentials), len(text))
	}
	for _, credential := range sent.credentials {
		if strings.Contains(text, credential) {
			t.Errorf("a credential of %d characters stands in the log", len(credential))
		}
	}
}

func TestUSE2_no_401_reaches_a_caller_while_short_tokens_are_renewed(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{TokenLifetime: 2 * time.Second}, simKey())
	source := p.source(nil, simKey())
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		p.mustBeAccepted(source)
		time.Sleep(10 * time.Millisecond) // the pace of a client that works
	}
	stats := p.Stats()
	if stats.Unauthorized != 0 || stats.TokensIssued < 3 || stats.TokensIssued > 6 {
		t.Errorf("got %d times 401 and %d tokens in 6 s of 2 s tokens, want none and 3 to 6", stats.Unauthorized, stats.TokensIssued)
	}
}

func TestUSE2_a_live_token_is_used_while_the_token_endpoint_is_down(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{TokenLifetime: 12 * time.Second}, simKey())
	source := p.source(nil, simKey())
	token := p.mustBeAccepted(source)
	if err := p.SetFaults(payersim.Faults{Token: payersim.TokenFaults{Answers: []payersim.Answer{{Times: -1, Status: 500}}}}); err != nil {
		t.Fatal(err)
	}
	for time.Until(token.Expires) > 1500*time.Millisecond { // the refresh is due after 8 s, and fails
		p.mustBeAccepted(source)
		time.Sleep(20 * time.Millisecond)
	}
	if p.Stats().Faults == 0 {
		t.Error("no refresh was tried while the token lived")
	}
	if err := p.SetFaults(payersim.Faults{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(token.Expires)) // the old one is over: the next has to be there, or to come
	p.mustBeAccepted(source)
	if got := p.Stats().Unauthorized; got != 0 {
		t.Errorf("%d requests were refused", got)
	}
}

func TestUSE3_1000_requests_that_are_refused_at_once_cause_one_refresh(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey())
	transport := &http.Transport{MaxConnsPerHost: 100, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	source := p.source(func(r *smartauth.Registration) { r.Transport = transport }, simKey())
	p.mustBeAccepted(source)
	p.RevokeTokens()
	client := http.Client{Transport: source.Transport(nil, smartauth.TransportOptions{})}
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/fhir/export-status/none", http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			response, err := client.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusNotFound { // authorized, for a job that is not there
				t.Errorf("got HTTP %d, want 404", response.StatusCode)
			}
		})
	}
	group.Wait()
	if stats := p.Stats(); stats.TokensIssued != 2 || stats.TokensRefused != 0 {
		t.Errorf("tokens: got %d and %d refused requests, want the first and one more", stats.TokensIssued, stats.TokensRefused)
	}
}

func TestUSE3_a_401_straight_after_a_fresh_token_surfaces_after_one_replay(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{RefuseAll: true}, payersim.Options{}, simKey())
	source := p.source(nil, simKey())
	if status := kickOff(t, source, p.url+"/fhir"); status != http.StatusUnauthorized {
		t.Errorf("got HTTP %d, want the 401", status)
	}
	if stats := p.Stats(); stats.Unauthorized != 2 || stats.TokensIssued != 2 {
		t.Errorf("got %d requests and %d tokens, want one replay with one more token", stats.Unauthorized, stats.TokensIssued)
	}
	for range 10 {
		_ = kickOff(t, source, p.url+"/fhir")
	}
	if stats := p.Stats(); stats.TokensIssued > 4 {
		t.Errorf("ten more refusals took %d tokens: a loop", stats.TokensIssued-2)
	}
}

func TestUSE4_a_bare_403_for_a_token_that_a_server_forgot_is_no_reason_to_refresh_at_once(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{RefusedStatus: http.StatusForbidden}, payersim.Options{}, simKey())
	source := p.source(nil, simKey())
	p.mustBeAccepted(source)
	p.RevokeTokens()
	// The token is younger than a minute: the 403 surfaces. The replay for an aged one is proven on virtual time.
	if status := kickOff(t, source, p.url+"/fhir"); status != http.StatusForbidden {
		t.Errorf("got HTTP %d, want 403", status)
	}
}

func TestTOK7_one_token_serves_ten_thousand_requests_of_many_sources(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{}, payersim.Options{}, simKey())
	var group sync.WaitGroup
	for range 20 {
		source := p.source(nil, simKey())
		group.Go(func() {
			for range 500 {
				if _, err := source.Token(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := p.Stats().TokensIssued; got != 1 {
		t.Errorf("tokens: got %d, want 1", got)
	}
}

func TestTOK5_a_caller_is_told_why_when_patience_ends(t *testing.T) {
	t.Parallel()
	p := simulate(t, payersim.TokenFaults{Answers: []payersim.Answer{{Times: -1, Status: 503, Headers: map[string]string{
		"Retry-After": "3600",
	}}}}, payersim.Options{}, simKey())
	start := time.Now()
	failure := p.refusal(p.source(nil, simKey()))
	if failure.Code != smartauth.CodeServerError || !failure.Temporary || failure.RetryAfter < 50*time.Minute {
		t.Errorf("got %v (temporary %t, Retry-After %s), want server_error for an hour", failure, failure.Temporary, failure.RetryAfter)
	}
	if waited := time.Since(start); waited > 10*time.Second {
		t.Errorf("the caller was kept %s for a wait of an hour", waited)
	}
}
