package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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

func TestFILE3_redirects(t *testing.T) {
	t.Parallel()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Key") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(twoPatients))
	}))
	defer store.Close()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/loop":
			w.Header().Set("Location", "/loop")
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/nowhere":
			w.WriteHeader(http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/hop/"):
			w.Header().Set("Location", map[string]string{
				"/hop/301": "302", "/hop/302": "303", "/hop/303": "/hop/307", "/hop/307": "/hop/308", "/hop/308": store.URL,
			}[r.URL.Path])
			var status int
			_, _ = fmt.Sscanf(r.URL.Path, "/hop/%d", &status)
			w.WriteHeader(status)
		}
	}, func(o *Options) { o.Payer.Export.Headers = map[string]string{"X-Key": "k"} })
	f := p.file()
	f.URL = p.URL + "/hop/301"
	if got, _, err := fetch(t.Context(), p.client, f); err != nil || got != twoPatients {
		t.Errorf("five redirects to a store: got %q, %v", got, err)
	}
	for _, path := range []string{"/loop", "/file"} {
		f.URL = p.URL + path
		_, err := p.client.Open(t.Context(), f)
		wantError(t, err, CodeRedirectRefused, ActionFail)
	}
	f.URL = p.URL + "/nowhere"
	_, err := p.client.Open(t.Context(), f)
	wantError(t, err, CodeUnexpectedStatus, ActionFail)
}

func TestUSE5_redirects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ from, location, want string }{
		{"https://payer.example/f", "https://payer.example/g", "token"},
		{"https://payer.example/f", "https://files.payer.example/g", "none"},
		{"https://payer.example/f", "https://payer.example:8443/g", "none"},
		{"https://payer.example/f", "http://payer.example/g", "token"}, // raised: only the payer's own host
		{"https://payer.example/f", "http://127.0.0.1/g", "refused"},
		{"https://payer.example/f", "http://evil.example/g", "refused"},
		{"https://payer.example/f", "https://u:p@evil.example/g", "refused"},
	} {
		var tokens []string
		hop := 0
		handler := func(token string) recorded {
			return func(w http.ResponseWriter, _ *http.Request) {
				tokens = append(tokens, token)
				if hop++; hop == 1 {
					w.Header().Set("Location", test.location)
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
			}
		}
		c, err := New(Options{
			Payer: config.Payer{FHIRURL: "https://payer.example/r4"}, Authorized: handler("token"), Plain: handler("none"),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = fetch(t.Context(), c, File{URL: test.from, RequiresAccessToken: true})
		switch {
		case test.want == "refused":
			wantError(t, err, CodeRedirectRefused, ActionFail)
		case err != nil || len(tokens) != 2 || tokens[1] != test.want:
			t.Errorf("%s: got %q, %v, want %s", test.location, tokens, err, test.want)
		}
	}
}

func TestUSE5_aKickOffIsNotRedirectedElsewhere(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example/$export", http.StatusTemporaryRedirect)
	})
	_, err := p.client.KickOff(t.Context(), KickOffRequest{})
	wantError(t, err, CodeRedirectRefused, ActionFail)
	p = newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2" {
			http.Redirect(w, r, "/v2", http.StatusFound)
			return
		}
		accepted(w, r)
	})
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Errorf("GET to the same origin: got %v", err)
	}
	_, err = p.client.KickOff(t.Context(), KickOffRequest{Patients: []string{"1"}})
	wantError(t, err, CodeRedirectRefused, ActionFail) // 302 would turn the POST into a GET
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

func TestFILE5_encodings(t *testing.T) {
	t.Parallel()
	half := len(twoPatients) / 2
	for _, test := range []struct {
		name, header, body, encoding string
		code                         string
		action                       Action
	}{
		{"plain", "", twoPatients, "", "", 0},
		{"identity", "identity", twoPatients, "", "", 0},
		{"gzip", "gzip", zip(t, twoPatients), "gzip", "", 0},
		{"x-gzip", "X-GZIP", zip(t, twoPatients), "gzip", "", 0},
		{"gzip without a header", "", zip(t, twoPatients), "gzip", "", 0},
		{"plain under a gzip header", "gzip", twoPatients, "", "", 0},
		{"members", "gzip", zip(t, twoPatients[:half]) + zip(t, twoPatients[half:]), "gzip", "", 0},
		{"an empty member more", "gzip", zip(t, twoPatients) + zip(t, ""), "gzip", "", 0},
		{"an empty member first", "gzip", zip(t, "") + zip(t, twoPatients), "gzip", "", 0},
		{"compressed twice", "gzip", zip(t, zip(t, twoPatients)), "gzip, gzip", "", 0},
		{"a list without spaces", "gzip,gzip", zip(t, zip(t, twoPatients)), "gzip, gzip", "", 0},
		{"what an upload in chunks leaves in a store", "aws-chunked", twoPatients, "", "", 0},
		{"the same, compressed", "gzip,aws-chunked", zip(t, twoPatients), "gzip", "", 0},
		{"brotli", "br", "\x0b\x02", "", CodeFileEncoding, ActionFail},
		{"brotli in a list", "gzip, br", "\x0b\x02", "", CodeFileEncoding, ActionFail},
		{"cut in the trailer", "gzip", zip(t, twoPatients)[:len(zip(t, twoPatients))-3], "", CodeFileTruncated, ActionRetry},
		{"cut in the data", "gzip", zip(t, twoPatients)[:30], "", CodeFileTruncated, ActionRetry},
		{"cut in the header", "gzip", zip(t, twoPatients)[:5], "", CodeFileTruncated, ActionRetry},
		{"cut in the second member", "gzip", zip(t, twoPatients) + zip(t, twoPatients)[:12], "", CodeFileTruncated, ActionRetry},
		{"garbage behind", "gzip", zip(t, twoPatients) + "garbage behind it", "", CodeFileCorrupt, ActionRetry},
		{"wrong CRC", "gzip", zip(t, twoPatients)[:len(zip(t, twoPatients))-8] + "\x00\x00\x00\x00" +
			zip(t, twoPatients)[len(zip(t, twoPatients))-4:], "", CodeFileCorrupt, ActionRetry},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := map[string]string{"Content-Type": "application/fhir+ndjson"}
			if test.header != "" {
				header["Content-Encoding"] = test.header
			}
			p := newPayer(t, answer(200, header, test.body))
			got, body, err := fetch(t.Context(), p.client, p.file())
			if test.code != "" {
				wantError(t, err, test.code, test.action)
				return
			}
			if err != nil || got != twoPatients || body.Encoding() != test.encoding || !body.Complete() {
				t.Fatalf("got %q, %v", got, err)
			}
			if body.WireBytes() != int64(len(test.body)) || body.Bytes() != int64(len(twoPatients)) {
				t.Errorf("got %d bytes on the wire and %d read, want %d and %d", body.WireBytes(), body.Bytes(), len(test.body),
					len(twoPatients))
			}
			if got := p.seen()[0].Header["Accept-Encoding"]; len(got) != 1 || got[0] != "gzip" {
				t.Errorf("got Accept-Encoding %q, want the bare token gzip", got)
			}
		})
	}
}

func TestFILE5_expansionIsBounded(t *testing.T) {
	t.Parallel()
	data := bomb(t, `{"resourceType":"Patient","id":"1"}`+"\n", "\n", expansionAllowance>>20+8)
	p := newPayer(t, answer(200, nil, data))
	body, err := p.client.Open(t.Context(), p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	wantError(t, err, CodeFileExpansion, ActionFail)
	if n > expansionAllowance+wireBuffer {
		t.Errorf("got %d bytes before the limit", n)
	}
}

// raw answers with bytes as they are, and then closes the connection.
func raw(response string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = buffer.WriteString(response)
		_ = buffer.Flush()
		_ = conn.Close()
	}
}

func TestFILE6_aCutFileIsNeverWhole(t *testing.T) {
	t.Parallel()
	zipped := zip(t, twoPatients)
	chunked := func(body string, end string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%s", len(body), body, end)
	}
	lengthy := func(length int, body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, body)
	}
	for _, test := range []struct {
		name, response string
		whole          bool
		delimited      bool
	}{
		{"length reached", lengthy(len(twoPatients), twoPatients), true, false},
		{"length missed at a line's end", lengthy(2*len(twoPatients), twoPatients), false, false},
		{"length missed in a line", lengthy(len(twoPatients), twoPatients[:50]), false, false},
		{"length missed by one", lengthy(len(twoPatients), twoPatients[:len(twoPatients)-1]), false, false},
		{"length missed at once", lengthy(len(twoPatients), ""), false, false},
		{"chunks with an end", chunked(twoPatients, "0\r\n\r\n"), true, false},
		{"chunks without an end", chunked(twoPatients, ""), false, false},
		{"chunk cut", chunked(twoPatients, "ff\r\n{"), false, false},
		{"gzip, length missed", lengthy(len(zipped)+20, zipped), false, false},
		{"gzip to the connection's end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + zipped, true, false},
		{"cut gzip to the connection's end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + zipped[:len(zipped)-1], false, false},
		{"plain to the connection's end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + twoPatients, true, true},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n" + twoPatients, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, raw(test.response))
			_, body, err := fetch(t.Context(), p.client, p.file())
			if !test.whole {
				wantError(t, err, CodeFileTruncated, ActionRetry)
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("got %v, want io.ErrUnexpectedEOF in it", err)
				}
				if body != nil && body.Complete() {
					t.Error("got Complete true")
				}
				return
			}
			if err != nil || !body.Complete() || body.CloseDelimited() != test.delimited {
				t.Errorf("got %v, body %+v, want close-delimited %v", err, body, test.delimited)
			}
		})
	}
}

func TestBody_an_end_stays_an_end(t *testing.T) {
	t.Parallel()
	p := newPayer(t, raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"+twoPatients))
	body, err := p.client.Open(t.Context(), p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	for range 3 {
		_, err := io.ReadAll(body)
		wantError(t, err, CodeFileTruncated, ActionRetry)
	}
}

func TestMAN6_checksum(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(twoPatients))
	for _, encoded := range []string{twoPatients, zip(t, twoPatients)} {
		p := newPayer(t, answer(200, nil, encoded))
		f := p.file()
		f.SHA256 = hex.EncodeToString(sum[:])
		if got, _, err := fetch(t.Context(), p.client, f); err != nil || got != twoPatients {
			t.Errorf("got %q, %v", got, err)
		}
		f.SHA256 = strings.Repeat("0", 64)
		_, _, err := fetch(t.Context(), p.client, f)
		wantError(t, err, CodeFileChecksum, ActionRetry)
	}
}

func TestFILE9_aSilentPayerIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, start := range []string{"", twoPatients} {
		release := make(chan struct{})
		p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write([]byte(start))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}, func(o *Options) { o.IdleTimeout = 30 * time.Millisecond })
		_, _, err := fetch(t.Context(), p.client, p.file())
		close(release)
		wantError(t, err, CodeFileStalled, ActionRetry)
	}
}

func TestFILE9_aSlowReaderIsNoSilentPayer(t *testing.T) {
	t.Parallel()
	const idle = 50 * time.Millisecond
	p := newPayer(t, answer(200, nil, twoPatients), func(o *Options) { o.IdleTimeout = idle })
	body, err := p.client.Open(t.Context(), p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	<-time.After(3 * idle) // the reader is busy: this is what is tested, not waited for
	if got, err := io.ReadAll(body); err != nil || string(got) != twoPatients {
		t.Errorf("got %q, %v", got, err)
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
