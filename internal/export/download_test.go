package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/outbound"
)

const twoPatients = `{"resourceType":"Patient","id":"1"}` + "\n" + `{"resourceType":"Patient","id":"2"}` + "\n"

func zip(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// fetch opens a file and reads it to its end.
func fetch(ctx context.Context, c *Client, f File) (string, *Body, error) {
	body, err := c.Open(ctx, f)
	if err != nil {
		return "", nil, err
	}
	data, err := io.ReadAll(body)
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	return string(data), body, err
}

func (p *payer) file() File {
	return File{Type: "Patient", URL: p.URL + "/f/1?sig=abc", RequiresAccessToken: true, Count: -1, Size: -1}
}

func TestFILE1_theTokenGoesOnlyWhereItIsRequired(t *testing.T) {
	t.Parallel()
	p := newPayer(t, answer(200, nil, twoPatients), func(o *Options) {
		o.Payer.Export.Headers = map[string]string{"X-Key": "k"}
	})
	for _, required := range []bool{true, false} {
		f := p.file()
		f.RequiresAccessToken = required
		if _, _, err := fetch(t.Context(), p.client, f); err != nil {
			t.Fatal(err)
		}
		requests := p.seen()
		last := requests[len(requests)-1]
		if got := last.Header.Get("Authorization") != ""; got != required {
			t.Errorf("required %v: got a token %v", required, got)
		}
		if last.Header.Get("X-Key") != "k" || last.RequestURI != "/f/1?sig=abc" {
			t.Errorf("got %s with %v", last.RequestURI, last.Header)
		}
	}
}

func TestFILE2_foreignHosts(t *testing.T) {
	t.Parallel()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Key") != "" {
			t.Error("the store saw a credential")
		}
		_, _ = w.Write([]byte(twoPatients))
	}))
	defer store.Close()
	host := strings.TrimPrefix(store.URL, "http://")
	headers := func(o *Options) { o.Payer.Export.Headers = map[string]string{"X-Key": "k"} }
	p := newPayer(t, accepted, headers)
	f := File{Type: "Patient", URL: store.URL + "/f/1"}
	if got, _, err := fetch(t.Context(), p.client, f); err != nil || got != twoPatients {
		t.Errorf("without token: got %q, %v", got, err)
	}
	f.RequiresAccessToken = true
	_, err := p.client.Open(t.Context(), f)
	if e := wantError(t, err, CodeFileToken, ActionFail); !strings.Contains(e.Detail, host) {
		t.Errorf("got %q, want the host %s in it", e.Detail, host)
	}
	seen := false
	listed := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization") == "Bearer secret" && r.Header.Get("X-Key") == ""
	}))
	defer listed.Close()
	p = newPayer(t, accepted, headers, func(o *Options) {
		o.Payer.DownloadHosts = []config.DownloadHost{{Host: strings.TrimPrefix(listed.URL, "http://"), Token: true}}
	})
	f.URL = listed.URL + "/f/1"
	if _, _, err := fetch(t.Context(), p.client, f); err != nil || !seen {
		// A listed host is https by default; on loopback its port tells it apart all the same.
		t.Errorf("listed with token: got %v, token %v", err, seen)
	}
}

func TestFILE4_acceptLadder(t *testing.T) {
	t.Parallel()
	for _, status := range []int{406, 400} {
		p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != "application/ndjson" {
				w.WriteHeader(status)
				return
			}
			_, _ = w.Write([]byte(twoPatients))
		})
		for range 2 {
			if _, _, err := fetch(t.Context(), p.client, p.file()); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(p.seen()); got != 3 {
			t.Errorf("%d: got %d requests, want 3: what worked is remembered", status, got)
		}
	}
	p := newPayer(t, answer(400, nil, ""))
	_, err := p.client.Open(t.Context(), p.file())
	wantError(t, err, CodeFileRefused, ActionFail)
	var accepts []string
	for _, request := range p.seen() {
		accepts = append(accepts, request.Header.Get("Accept"))
	}
	if got := strings.Join(accepts, " "); got != "application/fhir+ndjson application/ndjson */*" {
		t.Errorf("got %s", got)
	}
}

func TestOpen_returns_the_end_of_its_context_as_it_is(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(twoPatients))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	body, err := p.client.Open(ctx, p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	cancel()
	_, err = io.ReadAll(body)
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestFILE11_refusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		token  bool
		code   string
		action Action
		grace  time.Duration
	}{
		{401, true, CodeUnauthorized, ActionFail, 0},
		{401, false, CodeFileExpired, ActionRenew, 0},
		{403, true, CodeFileExpired, ActionRenew, 0},
		{403, false, CodeFileExpired, ActionRenew, 0},
		{404, true, CodeFileGone, ActionRenew, fileGrace},
		{410, true, CodeFileGone, ActionRenew, 0},
		{408, true, CodeThrottled, ActionWait, 0},
		{429, true, CodeThrottled, ActionWait, 0},
		{413, true, CodeFileRefused, ActionFail, 0},
		{500, true, CodePayerError, ActionRetry, 0},
		{503, true, CodePayerError, ActionRetry, 0},
		{206, true, CodeUnexpectedStatus, ActionFail, 0},
		{202, true, CodeUnexpectedStatus, ActionFail, 0},
	} {
		p := newPayer(t, answer(test.status, map[string]string{"Retry-After": "90"}, ""))
		f := p.file()
		f.RequiresAccessToken = test.token
		_, err := p.client.Open(t.Context(), f)
		e := wantError(t, err, test.code, test.action)
		if e.Grace != test.grace || e.RetryAfter != 90*time.Second {
			t.Errorf("%d: got grace %v and Retry-After %v", test.status, e.Grace, e.RetryAfter)
		}
		if strings.Contains(e.Operator(), "sig=") {
			t.Errorf("got %q, which quotes the URL's query", e.Operator())
		}
	}
}

func TestFILE12_emptyFiles(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"no bytes": answer(200, nil, ""), "a newline": answer(200, nil, "\n"), "newlines": answer(200, nil, "\r\n\n \n"),
		"204": answer(204, nil, ""), "a BOM": answer(200, nil, byteOrderMark), "gzip of nothing": answer(200, nil, zip(t, "")),
		"one byte": answer(200, nil, " "), "an empty chunked body": raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		"many blanks": answer(200, nil, strings.Repeat("\n", 2*peekFirst)),
	} {
		p := newPayer(t, handler)
		body, err := p.client.Open(t.Context(), p.file())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		lines := NewLineReader(body, 0)
		if line, err := lines.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: got %q, %v, want the end", name, line.Bytes, err)
		}
		lines.Close()
		_ = body.Close()
	}
}

func TestFILE13_200IsNotYetData(t *testing.T) {
	t.Parallel()
	const outcome = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception","diagnostics":"for Jane"}]}`
	for _, test := range []struct {
		name, body, contentType string
		code, detail            string
		action                  Action
	}{
		{"login page", "<!DOCTYPE html>\n<html>", "text/html", CodeFileNotNDJSON, "an HTML page", ActionRetry},
		{"blocked", "Request blocked by firewall", "text/plain", CodeFileNotNDJSON, "plain text", ActionRetry},
		{"array", `[{"resourceType":"Patient"}]`, "application/json", CodeFileNotNDJSON, "a JSON array", ActionRetry},
		{"outcome", outcome, "application/fhir+json", CodeFileNotNDJSON, "OperationOutcome", ActionRetry},
		{
			"outcome on lines", "{\n  \"resourceType\": \"OperationOutcome\",\n \"issue\":[{\"severity\":\"fatal\"}]}", "", CodeFileNotNDJSON,
			"OperationOutcome", ActionRetry,
		},
		{
			"HAPI's wrapper", `{"resourceType":"Binary","contentType":"application/fhir+ndjson","data":"e30="}`, "", CodeFileNotNDJSON,
			"Binary", ActionFail,
		},
		{"outcome among lines", outcome + "\n" + twoPatients, "", "", "", 0},
		{"warning only", strings.Replace(outcome, "error", "warning", 1), "", "", "", 0},
		{"octet-stream", twoPatients, "application/octet-stream", "", "", 0},
		{"no type, BOM and blanks", "\n" + byteOrderMark + "\r\n" + twoPatients, "", "", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, answer(200, map[string]string{"Content-Type": test.contentType}, test.body))
			got, _, err := fetch(t.Context(), p.client, p.file())
			if test.code == "" {
				if err != nil || got != test.body {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			e := wantError(t, err, test.code, test.action)
			if !strings.Contains(e.Detail, test.detail) || strings.Contains(e.Error(), "Jane") {
				t.Errorf("got %q, want %q in it", e.Error(), test.detail)
			}
		})
	}
	p := newPayer(t, answer(200, nil, outcome))
	f := p.file()
	f.Type = "OperationOutcome"
	if got, _, err := fetch(t.Context(), p.client, f); err != nil || got != outcome {
		t.Errorf("an outcome file: got %q, %v", got, err)
	}
}

func TestOpen_reuses_its_connection(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(answer(200, nil, twoPatients))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := newClient(t, server.URL)
	for range 20 {
		if _, _, err := fetch(t.Context(), c, File{URL: server.URL + "/f", Type: "Patient"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("got %d connections for 20 files, want 1", got)
	}
}

func TestOpen_refuses_a_private_address(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://payer.example/r4")
	_, err := c.Open(t.Context(), File{URL: "https://169.254.169.254/latest/meta-data"})
	wantError(t, err, outbound.CodeAddressRefused, ActionFail)
}
