package smartauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func asError(t *testing.T, err error) *Error {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("got %T %v, want an *Error", err, err)
	}
	return failure
}

func TestTOK1_the_form_holds_each_parameter_once(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	mustToken(t, newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey())))
	form := p.forms[0]
	for name, want := range map[string]string{
		"grant_type": "client_credentials", "scope": "system/Patient.read", "client_assertion_type": assertionType,
	} {
		if !slices.Equal(form[name], []string{want}) {
			t.Errorf("%s: got %q, want %q once", name, form[name], want)
		}
	}
	if len(form) != 4 || len(form["client_assertion"]) != 1 {
		t.Errorf("got the parameters %v, want four", form)
	}

	p = newPayer(t, testKey())
	p.before = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		_ = r.ParseForm()
		p.forms = append(p.forms, r.PostForm)
		p.issue(w, nil)
		return true
	}
	registration := p.registration(testKey())
	registration.SendClientID = true
	mustToken(t, newTestSource(t, newTestManager(t, ManagerOptions{}), registration))
	if got := p.forms[0].Get("client_id"); got != p.clientID {
		t.Errorf("client_id, switched on: got %q, want %q", got, p.clientID)
	}
}

func TestJWT3_audience_and_kid_can_be_what_the_payer_wants(t *testing.T) {
	t.Parallel()
	issued := &Key{id: "issued-by-payer", algorithm: testKey().algorithm, signer: testKey().signer}
	p := newPayer(t, issued)
	p.audience = "https://gateway.example/token"
	registration := p.registration(testKey())
	registration.Audience, registration.Kid = p.audience, "issued-by-payer"
	mustToken(t, newTestSource(t, newTestManager(t, ManagerOptions{}), registration))
}

func TestJWT4_assertions_are_dated_by_the_servers_clock(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{4 * time.Minute, -4 * time.Minute, 10 * time.Minute, -10 * time.Minute} {
		for _, discovered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, discovered %t", skew, discovered), func(t *testing.T) {
				t.Parallel()
				p := newPayer(t, testKey())
				p.skew = skew
				registration := p.registration(testKey())
				if !discovered { // then the refusal is the first answer with a Date
					registration.TokenURL = p.audience
				}
				var log bytes.Buffer
				m := newTestManager(t, ManagerOptions{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
				mustToken(t, newTestSource(t, m, registration))
				if got := m.Status()[0].ClockSkew; (got - skew).Abs() > 5*time.Second {
					t.Errorf("clock skew: got %s, want %s", got, skew)
				}
				m.Close()
				if !discovered && !strings.Contains(log.String(), "clock") {
					t.Errorf("the skew is not reported: %s", log.String())
				}
			})
		}
	}
}

func TestJWT4_a_clock_too_far_off_is_named_as_the_cause(t *testing.T) {
	t.Parallel()
	for relation, skew := range map[string]time.Duration{"ahead of": 48 * time.Hour, "behind": -48 * time.Hour} {
		p := newPayer(t, testKey())
		p.skew = skew
		_, err := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey())).Token(t.Context())
		failure := asError(t, err)
		// A Date is in whole seconds and a loaded machine answers late: the difference is near what it is.
		named := regexp.MustCompile(`the server's clock is (\S+) ` + relation + ` this machine's`).FindStringSubmatch(failure.Description)
		if named == nil || failure.Code != CodeClockSkew || !strings.Contains(failure.Hint, "NTP") {
			t.Fatalf("got %v (hint %q), want clock_skew with the difference, %s", failure, failure.Hint, relation)
		}
		if got, err := time.ParseDuration(named[1]); err != nil || (got-skew.Abs()).Abs() > time.Minute {
			t.Errorf("the clock is said to be %s %s, %v; want %s", named[1], relation, err, skew.Abs())
		}
	}
}

func TestJWT8_a_redirect_at_the_token_endpoint_is_not_followed(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 1)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer other.Close()
	p := newPayer(t, testKey())
	p.before = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		return true
	}
	_, err := newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey())).Token(t.Context())
	if failure := asError(t, err); failure.Code != CodeRedirected || failure.Temporary {
		t.Errorf("got %v, want redirected", failure)
	}
	select {
	case <-reached:
		t.Error("the redirect was followed")
	default:
	}
	if got := p.tokenRequests(); got != 1 {
		t.Errorf("requests: got %d, want 1", got)
	}
}

func TestTOK5_every_body_of_a_refusal_becomes_a_typed_error(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		status     int
		code, says string
		temporary  bool
	}{
		{"OAuth", `{"error":"invalid_client","error_description":"no such key"}`, 401, "invalid_client", "no such key", false},
		{"description null", `{"error":"invalid_scope","error_description":null}`, 400, "invalid_scope", "", false},
		{"only error_uri", `{"error":"invalid_request","error_uri":"https://docs.example/e"}`, 400, "invalid_request", "docs.example", false},
		{"invalid_grant", `{"error":"invalid_grant"}`, 400, "invalid_grant", "", false},
		{"unauthorized_client", `{"error":"unauthorized_client"}`, 403, "unauthorized_client", "", false},
		{"a code of the server's own", `{"error":"tenant_suspended"}`, 400, "tenant_suspended", "", false},
		{"framework JSON", `{"code":401,"message":"HTTP 401 Unauthorized"}`, 401, CodeRejected, "HTTP 401 Unauthorized", false},
		{"error of another type", `{"error":{"code":1}}`, 400, CodeRejected, "", false},
		{"plain text", "Bad Request\n", 400, CodeRejected, "Bad Request", false},
		{"HTML", "<!doctype html><p>oops", 403, CodeRejected, "markup", false},
		{"empty", "", 400, CodeRejected, "", false},
		{"array", `["no"]`, 400, CodeRejected, "no", false},
		{"404", "not here", 404, CodeEndpointMissing, "not here", false},
		{"405", "", 405, CodeEndpointMissing, "", false},
		{"410", "", 410, CodeEndpointMissing, "", false},
		{"500 with HTML", "<html>", 500, CodeServerError, "markup", true},
		{"503", "", 503, CodeServerError, "", true},
		{"429", `{"error":"slow_down"}`, 429, CodeRateLimited, "", true},
		{"temporarily_unavailable", `{"error":"temporarily_unavailable"}`, 400, CodeServerError, "", true},
		{"200 with an error", `{"error":"invalid_scope"}`, 200, "invalid_scope", "", false},
		{"200 with HTML", `<html>login</html>`, 200, CodeBadResponse, "JSON", true},
		{"200 without access_token", `{"token_type":"bearer"}`, 200, CodeBadResponse, "access_token", true},
		{"200 with MAC", `{"access_token":"a-b-c","token_type":"mac"}`, 200, CodeBadResponse, "mac", true},
		{"200 with a line break", `{"access_token":"a\r\nX: y"}`, 200, CodeBadResponse, "characters", true},
		{"204", "", 204, CodeBadResponse, "JSON", true},
		{"a megabyte too much", `{"access_token":"` + strings.Repeat("x", maxResponse) + `"}`, 200, CodeBadResponse, "1 MiB", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// One attempt, without the manager's patience around it.
			registration := &Registration{
				Payer: "acme", FHIRURL: "https://fhir.example", Method: MethodPrivateKeyJWT, ClientID: "c", Keys: []*Key{testKey()},
				Transport: roundTripper(func(r *http.Request) (*http.Response, error) { return answer(r, test.status, test.body, nil), nil }),
			}
			_, failure := tokenRequest{
				registration: registration, endpoint: "https://auth.example/token?tenant=secret", key: testKey(), algorithm: testKey().algorithm,
				skew: &clockSkew{}, timeout: 10 * time.Second,
			}.send(t.Context())
			if failure == nil {
				t.Fatal("got a token, want an error")
			}
			if failure.Code != test.code || failure.Temporary != test.temporary || failure.Status != test.status {
				t.Errorf("got code %s, temporary %t, status %d; want %s, %t, %d", failure.Code, failure.Temporary, failure.Status,
					test.code, test.temporary, test.status)
			}
			if !strings.Contains(failure.Error(), test.says) || failure.Hint == "" {
				t.Errorf("got %q (hint %q), want it to say %q and a hint", failure, failure.Hint, test.says)
			}
			if strings.Contains(failure.Error(), "tenant=secret") {
				t.Errorf("the error holds a query string: %q", failure)
			}
		})
	}
}

func TestTOK5_a_permanent_refusal_is_tried_twice_and_then_left_alone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests++
				return answer(r, 401, `{"error":"invalid_client"}`, nil), nil
			}),
		})
		_, err := source.Token(t.Context())
		failure := asError(t, err)
		if failure.Code != "invalid_client" || failure.Temporary || failure.RetryAfter < 30*time.Second {
			t.Errorf("got %v, retry after %s; want invalid_client with a pause of a minute or so", failure, failure.RetryAfter)
		}
		if requests != 2 {
			t.Errorf("requests: got %d, want 2: one more try with a new assertion", requests)
		}
		end := time.Now().Add(time.Hour)
		for time.Now().Before(end) {
			if _, err := source.Token(t.Context()); err == nil {
				t.Fatal("got a token")
			}
			time.Sleep(time.Second)
		}
		if requests > 20 {
			t.Errorf("requests in an hour: got %d, want at most 20", requests)
		}
	})
}

func TestTOK5_a_passing_refusal_is_not_noticed(t *testing.T) {
	t.Parallel()
	p := newPayer(t, testKey())
	p.before = func(attempt int, w http.ResponseWriter, _ *http.Request) bool {
		if attempt == 1 {
			w.WriteHeader(http.StatusBadRequest) // bare, as some servers send in passing
			return true
		}
		return false
	}
	mustToken(t, newTestSource(t, newTestManager(t, ManagerOptions{}), p.registration(testKey())))
}

func TestTOK5_a_long_RetryAfter_frees_the_caller_at_once(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests++
				return answer(r, 429, "", http.Header{"Retry-After": {"7200"}}), nil
			}),
		})
		start := time.Now()
		for range 10 {
			_, err := source.Token(t.Context())
			failure := asError(t, err)
			if failure.Code != CodeRateLimited || !failure.Temporary || failure.RetryAfter < 7100*time.Second {
				t.Fatalf("got %v, retry after %s; want rate_limited, two hours", failure, failure.RetryAfter)
			}
		}
		if waited := time.Since(start); waited > time.Second || requests != 1 {
			t.Errorf("waited %s with %d requests, want no wait and one request", waited, requests)
		}
	})
}

func TestParseRetryAfter_reads_seconds_and_dates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"120", "", 2 * time.Minute},
		{" 1.5 ", "", 1500 * time.Millisecond},
		{"-5", "", 0},
		{"NaN", "", 0},
		{"1e300", "", maxRetryAfter},
		{"soon", "", 0},
		{"Mon, 23 Nov 2026 10:01:00 GMT", "", time.Minute},
		{"Mon, 23 Nov 2026 10:01:00 GMT", "Mon, 23 Nov 2026 10:00:30 GMT", 30 * time.Second},
		{"Mon, 23 Nov 2026 09:00:00 GMT", "", 0},
		{"Fri, 23 Nov 2035 09:00:00 GMT", "", maxRetryAfter},
	} {
		header := http.Header{"Retry-After": {test.value}}
		if test.date != "" {
			header.Set("Date", test.date)
		}
		if got := parseRetryAfter(header, now); got != test.want {
			t.Errorf("Retry-After %q, Date %q: got %s, want %s", test.value, test.date, got, test.want)
		}
	}
}

func TestTOK6_client_secrets_go_as_the_server_wants_them(t *testing.T) {
	t.Parallel()
	const secretValue = "s:cr%t+w/ x"
	for _, test := range []struct {
		name, method string
		raw          bool
		user, pass   string
		form         url.Values
	}{
		{"basic, encoded", MethodClientSecretBasic, false, "id%3A1", url.QueryEscape(secretValue), url.Values{}},
		{"basic, raw", MethodClientSecretBasic, true, "id", "1:" + secretValue, url.Values{}},
		{"post", MethodClientSecretPost, false, "", "", url.Values{"client_id": {"id:1"}, "client_secret": {secretValue}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var form url.Values
			var user, pass string
			source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
				Payer: "bcda", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", Method: test.method, ClientID: "id:1",
				RawBasic: test.raw, Types: []string{"Patient"},
				ClientSecret: func(context.Context) (string, error) { return secretValue, nil },
				Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					user, pass, _ = r.BasicAuth()
					body, _ := io.ReadAll(r.Body)
					form, _ = url.ParseQuery(string(body))
					return answer(r, 200, `{"access_token":"t","expires_in":"1200"}`, nil), nil
				}),
			})
			mustToken(t, source)
			if user != test.user || pass != test.pass {
				t.Errorf("basic: got %q, %q; want %q, %q", user, pass, test.user, test.pass)
			}
			if form.Get("client_assertion") != "" || form.Get("grant_type") != "client_credentials" {
				t.Errorf("form: got %v", form)
			}
			for _, name := range []string{"client_id", "client_secret"} {
				if form.Get(name) != test.form.Get(name) {
					t.Errorf("%s: got %q, want %q", name, form.Get(name), test.form.Get(name))
				}
			}
		})
	}
}

func TestTOK6_a_secret_that_cannot_be_had_is_said_so(t *testing.T) {
	t.Parallel()
	source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
		Payer: "bcda", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", Method: MethodClientSecretPost, ClientID: "c",
		ClientSecret: func(context.Context) (string, error) { return "", errors.New("env BCDA_SECRET is not set") },
	})
	_, err := source.Token(t.Context())
	if failure := asError(t, err); failure.Code != CodeCredential || !strings.Contains(failure.Error(), "BCDA_SECRET") {
		t.Errorf("got %v, want the reason", failure)
	}
}

func TestKEY5_a_rotation_that_the_server_has_not_seen_falls_back_to_the_other_key(t *testing.T) {
	t.Parallel()
	old, successor := testKey(), testRSAKey()
	p := newPayer(t, old) // has cached the set from before the rotation
	var log bytes.Buffer
	m := newTestManager(t, ManagerOptions{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	source := newTestSource(t, m, p.registration(successor, old))
	token := mustToken(t, source)
	if got := p.tokenRequests(); got != 2 {
		t.Errorf("requests: got %d, want 2: the new key, then the old one", got)
	}
	source.Invalidate(token)
	mustToken(t, source)
	if got := p.tokenRequests(); got != 3 {
		t.Errorf("requests: got %d, want 3: the key that works is remembered", got)
	}
	p.publish(t, successor) // now the server has it, and the old one is withdrawn
	source.Invalidate(mustToken(t, source))
	mustToken(t, source)
	m.Close()
	if !strings.Contains(log.String(), `"refused_kid":"test-rsa","accepted_kid":"test-key"`) {
		t.Errorf("the fallback is not reported: %s", log.String())
	}
}

func TestKEY1_the_algorithm_follows_what_the_server_lists_unless_it_was_chosen(t *testing.T) {
	t.Parallel()
	usual, err := NewKey("k", "", testRSAKey().Signer())
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := NewKey("k", "RS384", testRSAKey().Signer())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key    *Key
		listed []string
		want   string
	}{
		{usual, nil, "RS384"},
		{usual, []string{"RS256", "RS384"}, "RS384"},
		{usual, []string{"ES256", "RS256"}, "RS256"},
		{usual, []string{"ES384"}, "RS384"},
		{chosen, []string{"RS256"}, "RS384"},
	} {
		if got := algorithmFor(test.key, test.listed); got.name != test.want {
			t.Errorf("chosen %t, listed %v: got %s, want %s", test.key.chosen, test.listed, got.name, test.want)
		}
	}
}

func TestTOK9_nothing_secret_is_logged_or_returned_whatever_fails(t *testing.T) {
	t.Parallel()
	const clientSecret = "correct-horse"
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(writerFunc(func(data []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(data)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	var seen []string
	echo := roundTripper(func(r *http.Request) (*http.Response, error) { // a server that repeats what it got
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		mu.Lock()
		defer mu.Unlock()
		for _, credential := range []string{form.Get("client_assertion"), form.Get("client_secret"), r.Header.Get("Authorization")} {
			if credential != "" {
				seen = append(seen, credential, url.QueryEscape(credential))
			}
		}
		description := string(body) + " " + form.Encode() + " " + form.Get("client_assertion") + form.Get("client_secret") + " " + r.Header.Get("Authorization")
		if r.URL.Query().Get("fail") == "network" {
			return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: errors.New("refused")}
		}
		return answer(r, 400, fmt.Sprintf(`{"error":"invalid_client","error_description":%q}`, description), nil), nil
	})
	synctest.Test(t, func(t *testing.T) {
		for _, method := range []string{MethodPrivateKeyJWT, MethodClientSecretBasic, MethodClientSecretPost} {
			for _, fail := range []string{"echo", "network"} {
				source := newTestSource(t, newTestManager(t, ManagerOptions{Logger: logger, Patience: 5 * time.Second}), Registration{
					Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token?fail=" + fail, Method: method,
					ClientID: "c", Keys: []*Key{testKey()}, Transport: echo,
					ClientSecret: func(context.Context) (string, error) { return clientSecret, nil },
				})
				_, err := source.Token(t.Context())
				if code := asError(t, err).Code; (code == "invalid_client") != (fail == "echo") {
					t.Fatalf("%s, %s: got %v", method, fail, err)
				}
				mu.Lock()
				text := err.Error() + log.String()
				for _, credential := range append(seen, clientSecret, "?fail=") {
					if strings.Contains(text, credential) {
						t.Errorf("%s, %s: %q stands in the error or the log:\n%s", method, fail, truncate(credential, 30), text)
					}
				}
				mu.Unlock()
			}
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(data []byte) (int, error) { return f(data) }
