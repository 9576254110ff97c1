package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPOLL1_theStoredURLIsSentVerbatim(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(202, nil, ""))
	for _, path := range []string{"/fhir/job/1/$status?a=b%2Fc&d=+", "/fhir/%24x%2Fy?%41=1", "/"} {
		if _, err := p.client.Poll(t.Context(), p.URL+path); err != nil {
			t.Fatal(err)
		}
		requests := p.seen()
		last := requests[len(requests)-1]
		if last.RequestURI != path || last.Header.Get("Accept") != "application/json" ||
			last.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("got %s with %v, want %s", last.RequestURI, last.Header, path)
		}
	}
}

func TestPOLL4_throttlingIsNoFailure(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(429, map[string]string{"Retry-After": "7200"}, ""))
	_, err := p.client.Poll(t.Context(), p.URL+"/status")
	e := wantError(t, err, CodeThrottled, ActionWait)
	if got := p.client.RetryDelay(e, 1); got < 2*time.Hour {
		t.Errorf("got a delay of %v, want at least the payer's two hours", got)
	}
}

func TestMAN13_expires(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 8, 22, 19, 2, 15, 0, time.UTC)
	for _, text := range []string{
		"Sat, 22 Aug 2026 19:02:15 GMT", "2026-08-22 19:02:15 +0000 UTC", "2026-08-22 21:02:15.0 +0200 CEST m=+0.123",
		"2026-08-22T19:02:15Z",
	} {
		if got := parseExpires(text); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "tomorrow", "a b c"} {
		if got := parseExpires(text); !got.IsZero() {
			t.Errorf("%q: got %v, want none", text, got)
		}
	}
}

func TestMAN13_an_instant_that_is_past_already_is_no_word_on_files(t *testing.T) {
	t.Parallel()
	const date = "Sat, 22 Aug 2026 19:02:15 GMT" // by the payer's clock
	for expires, known := range map[string]bool{
		"Thu, 01 Jan 1970 00:00:00 GMT": false, "Thu, 19 Nov 1981 08:52:00 GMT": false, date: false, // against caches
		"Sat, 22 Aug 2026 19:03:15 GMT": true,
	} {
		p := newPayer(t, answer(200, map[string]string{"Expires": expires, "Date": date}, `{"output":[]}`))
		status, err := p.client.Poll(t.Context(), p.URL+"/status/1")
		if err != nil || status.Expires.IsZero() == known {
			t.Errorf("%s: got %v, %v", expires, status.Expires, err)
		}
	}
}

func TestPOLL5_complete(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte(`{"transactionTime":"2026-01-01T00:00:00Z","output":[{"type":"Patient","url":"/f/1"}]}`))
	_ = w.Close()
	for _, encoding := range []string{"", "gzip"} {
		p := newPayer(t, answer(200, map[string]string{
			"Expires": "Sat, 22 Aug 2026 19:02:15 GMT", "Date": "Sat, 22 Aug 2026 18:02:15 GMT", "Content-Type": "text/plain", "Content-Encoding": encoding,
		}, zipped.String()))
		status, err := p.client.Poll(t.Context(), p.URL+"/status/1")
		if err != nil {
			t.Fatal(err)
		}
		if !status.Complete || status.Manifest.Output[0].URL != p.URL+"/f/1" || status.Expires.Year() != 2026 {
			t.Errorf("got %+v", status)
		}
	}
}

func TestPOLL5_wrongAnswersUnder200(t *testing.T) {
	t.Parallel()
	const secret = "eyJhbGciOiJSUzM4NCJ9abcdefgh"
	for _, test := range []struct {
		name, body, contentType string
		code                    string
		action                  Action
		detail                  string
	}{
		{"login page", "<!DOCTYPE html><title>Log in</title>" + secret, "text/html", CodeNotAManifest, ActionRetry, "an HTML page"},
		{"empty", "", "application/json", CodeNotAManifest, ActionRetry, "an empty body"},
		{"words", "Service is under maintenance", "text/plain", CodeNotAManifest, ActionRetry, "plain text"},
		{"Bundle", `{"resourceType":"Bundle","id":"` + secret + `"}`, "application/fhir+json", CodeNotAManifest, ActionFail, "a FHIR Bundle"},
		{
			"outcome", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception"}]}`, "", CodeNotAManifest,
			ActionFail, "a FHIR OperationOutcome",
		},
		{
			"passing outcome", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"transient"}]}`, "",
			CodeNotAManifest, ActionWait, "a FHIR OperationOutcome",
		},
		{"broken JSON", `{"output": [,]}`, "application/json", CodeNotAManifest, ActionFail, "not valid JSON"},
		{"cut JSON", `{"output": [{"url"`, "application/json", CodeNotAManifest, ActionRetry, "did not come whole"},
		{"private URL scheme", `{"output":[{"url":"http://10.0.0.1/x?sig=` + secret + `"}]}`, "", CodeURLRefused, ActionFail, "output[0]"},
		{
			"token for a stranger", `{"requiresAccessToken":true,"output":[{"url":"https://evil.example/x"}]}`, "", CodeFileToken,
			ActionFail, "evil.example",
		},
		{"unknown scheme", `{"requiresAccessToken":false,"output":[{"url":"https://s.example/x","extension":[{"url":` +
			`"https://x.example/file-encryption"}]}]}`, "", CodeFileScheme, ActionFail, "file-encryption"},
		{"next elsewhere", `{"output":[],"link":[{"relation":"next","url":"https://evil.example/2"}]}`, "", CodeURLRefused, ActionFail, "link"},
		{"too large", `{"output":[],"x":"` + strings.Repeat("x", 5000) + `"}`, "", CodeManifestTooLarge, ActionFail, "4096"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, answer(200, map[string]string{"Content-Type": test.contentType}, test.body),
				func(o *Options) { o.MaxManifestBytes = 4096 })
			_, err := p.client.Poll(t.Context(), p.URL+"/status/1")
			e := wantError(t, err, test.code, test.action)
			if !strings.Contains(e.Detail, test.detail) {
				t.Errorf("got detail %q, want %q in it", e.Detail, test.detail)
			}
			if strings.Contains(e.Operator(), secret) {
				t.Errorf("got %q, which quotes what may be a secret", e.Operator())
			}
		})
	}
}

func TestPOLL5_aManifestThatBreaksOffIsAskedForAgain(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"output":[],"request":"x`))
	})
	_, err := p.client.Poll(t.Context(), p.URL+"/status/1")
	wantError(t, err, CodeNotAManifest, ActionRetry)
}

func TestPOLL5_aManifestThatStallsIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 202, 302, 500} {
		p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/next" {
				answer(202, nil, "")(w, r)
				return
			}
			w.Header().Set("Location", "/next")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"output":[`))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, func(o *Options) { o.IdleTimeout = 20 * time.Millisecond })
		_, err := p.client.Poll(t.Context(), p.URL+"/status/1")
		switch status {
		case 200:
			wantError(t, err, CodeNotAManifest, ActionRetry)
		case 500:
			wantError(t, err, CodePayerError, ActionRetry)
		default: // the body is of no account
			if err != nil {
				t.Errorf("%d: got %v", status, err)
			}
		}
	}
}

func TestPOLL6_errors(t *testing.T) {
	t.Parallel()
	const passing = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"timeout"}]}`
	const final = `{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"exception","diagnostics":"patient Jane"}]}`
	for _, test := range []struct {
		status int
		body   string
		code   string
		action Action
	}{
		{500, passing, CodePayerTransient, ActionWait},
		{400, passing, CodePayerTransient, ActionWait},
		{500, final, CodePayerError, ActionRetry},
		{502, "<html>", CodePayerError, ActionRetry},
		{503, "", CodePayerError, ActionRetry},
		{400, final, CodeJobFailed, ActionFail},
		{413, "", CodeExportTooLarge, ActionFail},
		{401, "", CodeUnauthorized, ActionFail},
		{403, "", CodeForbidden, ActionFail},
		{403, final, CodeForbidden, ActionFail},
		{403, "<html><title>Request blocked</title>", CodeForbidden, ActionRetry},
		{304, "", CodeUnexpectedStatus, ActionFail},
		{408, "", CodeThrottled, ActionWait},
	} {
		p := newPayer(t, answer(test.status, nil, test.body))
		_, err := p.client.Poll(t.Context(), p.URL+"/status/1")
		e := wantError(t, err, test.code, test.action)
		if strings.Contains(e.Error(), "Jane") {
			t.Errorf("%d: the error for the log names a patient: %v", test.status, e)
		}
		if test.body == final && (!strings.Contains(e.Error(), "fatal/exception") || !strings.Contains(e.Operator(), "Jane")) {
			t.Errorf("%d: got %q and %q", test.status, e.Error(), e.Operator())
		}
	}
}

func TestPOLL7_theJobIsGone(t *testing.T) {
	t.Parallel()
	two := `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`
	for status, grace := range map[int]time.Duration{404: jobGrace, 410: 0} {
		p := newPayer(t, answer(status, nil, two+two))
		_, err := p.client.Poll(t.Context(), p.URL+"/status/1")
		if e := wantError(t, err, CodeJobGone, ActionRestart); e.Grace != grace || e.Outcome == nil {
			t.Errorf("%d: got grace %v and outcome %v, want %v and one", status, e.Grace, e.Outcome, grace)
		}
	}
}

func TestPOLL8_aRunningExportUnder200IsNotComplete(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(200, map[string]string{"X-Export-Status": "202 Accepted"}, `{"output":[]}`))
	status, err := p.client.Poll(t.Context(), p.URL+"/status/1")
	if err != nil || status.Complete || status.Manifest == nil {
		t.Errorf("got %+v, %v, want an export in progress with its first page", status, err)
	}
	// Nobody asked for separate-export-status, so that any other value says nothing.
	p = newPayer(t, answer(200, map[string]string{"X-Export-Status": "500"}, `{"output":[]}`))
	if status, err = p.client.Poll(t.Context(), p.URL+"/status/1"); err != nil || !status.Complete {
		t.Errorf("got %+v, %v, want a complete export", status, err)
	}
}

func TestPoll_tries_a_broken_connection_again_at_once(t *testing.T) {
	t.Parallel()
	var broken atomic.Int32
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Add(1) <= 2 {
			panic(http.ErrAbortHandler)
		}
		answer(202, nil, "")(w, r)
	})
	if _, err := p.client.Poll(t.Context(), p.URL+"/status/1"); err != nil {
		t.Fatal(err)
	}
	broken.Store(-1000)
	_, err := p.client.Poll(t.Context(), p.URL+"/status/1")
	e := wantError(t, err, "connection_reset", ActionRetry)
	if strings.Contains(e.Error(), "status/1") {
		t.Errorf("got %q, which quotes the URL", e.Error())
	}
}

func TestPoll_returns_the_end_of_its_context_as_it_is(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := newPayer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := p.client.Poll(ctx, p.URL+"/status/1")
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestPoll_refuses_a_stored_URL_that_the_configuration_no_longer_allows(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://payer.example/r4")
	for _, u := range []string{"https://other.example/1", "/relative", "ftp://payer.example/1", "::"} {
		_, err := c.Poll(t.Context(), u)
		wantError(t, err, CodeURLRefused, ActionFail)
	}
}

func TestCLN1_delete(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 202, 204, 400, 404, 405, 410, 501} {
		p := newPayer(t, answer(status, nil, ""))
		if err := p.client.Delete(t.Context(), p.URL+"/status/1?a=b"); err != nil {
			t.Errorf("%d: got %v, want done", status, err)
		}
		if request := p.seen()[0]; request.Method != http.MethodDelete || request.RequestURI != "/status/1?a=b" ||
			request.Header.Get("Authorization") == "" {
			t.Errorf("got %s %s", request.Method, request.RequestURI)
		}
	}
	for status, action := range map[int]Action{500: ActionRetry, 429: ActionWait, 401: ActionFail, 403: ActionFail} {
		p := newPayer(t, answer(status, nil, ""))
		var e *Error
		if err := p.client.Delete(t.Context(), p.URL+"/status/1"); !errors.As(err, &e) || e.Action != action {
			t.Errorf("%d: got %v, want %s", status, err, action)
		}
	}
	c := newClient(t, "https://payer.example/r4")
	wantError(t, c.Delete(t.Context(), "https://other.example/1"), CodeURLRefused, ActionFail)
}
