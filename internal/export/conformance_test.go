package export

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

func TestKICK5_outputFormat_is_never_sent(t *testing.T) {
	t.Parallel()
	// A server that refuses any _outputFormat, in the query or in the body.
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || strings.Contains(r.URL.RawQuery+string(body), "_outputFormat") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		accepted(w, r)
	}
	for _, method := range []string{"get", "post"} {
		p := newPayer(t, handler, everything, func(o *Options) { o.Payer.Export.Method = method })
		if _, err := p.client.KickOff(t.Context(), KickOffRequest{Since: "2026-01-01T00:00:00Z"}); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		if got := p.seen()[0].Method; !strings.EqualFold(got, method) {
			t.Errorf("got %s, want %s", got, method)
		}
	}
}

func TestINC6_until_is_sent_as_it_is_given(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted)
	r := KickOffRequest{Since: "2026-01-01T00:00:00.123456Z", Until: "2026-02-01T00:00:00.000001+01:00"}
	if _, err := p.client.KickOff(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	const want = "_since=2026-01-01T00%3A00%3A00.123456Z&_until=2026-02-01T00%3A00%3A00.000001%2B01%3A00"
	if got := p.seen()[0].URL.RawQuery; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestINC7_filters_are_encoded_so_that_every_server_tells_them_apart(t *testing.T) {
	t.Parallel()
	p := newPayer(t, accepted, func(o *Options) {
		o.Payer.Export.Types = []string{"Coverage", "Patient"}
		o.Payer.Export.TypeFilters = []string{
			"Coverage?status=active,cancelled", "Coverage?identifier=http://x.example|1&period=gt2026-01-01", "Patient?name=a b+c",
			"Observation?code=1", // a type that is not asked for
		}
	})
	if _, err := p.client.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Fatal(err)
	}
	const want = "_type=Coverage,Patient" +
		"&_typeFilter=Coverage%3Fstatus%3Dactive%252Ccancelled" +
		"&_typeFilter=Coverage%3Fidentifier%3Dhttp%3A%2F%2Fx.example%7C1%26period%3Dgt2026-01-01" +
		"&_typeFilter=Patient%3Fname%3Da%20b%2Bc"
	if got := p.seen()[0].URL.RawQuery; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMAN10_pages_agree_and_an_outcome_file_on_each_is_read_once(t *testing.T) {
	t.Parallel()
	for name, extra := range map[string]string{
		"transactionTime":     `,"transactionTime":"2026-01-02T00:00:00Z"`,
		"requiresAccessToken": `,"requiresAccessToken":false`,
		"outputOrganizedBy":   `,"outputOrganizedBy":"Patient"`,
	} {
		p := newPayer(t, pageServer(map[string]http.HandlerFunc{"": page(200, "2", "", "a"), "2": page(200, "", extra, "b")}))
		_, err := p.client.Poll(t.Context(), p.URL+"/status")
		if e := wantError(t, err, CodePagesDisagree, ActionFail); !strings.Contains(e.Error(), name) {
			t.Errorf("got %s, want %s named", e, name)
		}
	}
	p := newPayer(t, pageServer(map[string]http.HandlerFunc{
		"": page(200, "2", "", "a"), "2": page(200, "3", "", "b"), "3": page(200, "", "", "c"),
	}))
	status, err := p.client.Poll(t.Context(), p.URL+"/status")
	if err != nil || !status.Complete || len(status.Manifest.Output) != 3 || len(status.Manifest.Errors) != 1 {
		t.Errorf("got %+v, %v; want three files, and the outcome file that stands on each page once", status.Manifest, err)
	}
}

func TestFILE14_no_query_of_a_files_URL_is_printed_whatever_fails(t *testing.T) {
	t.Parallel()
	const signature = "X-Amz-Signature=5ec7e7"
	redirect := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.Redirect(w, r, "/elsewhere?"+signature, http.StatusTemporaryRedirect)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"refused":         answer(403, nil, ""),
		"gone":            answer(410, nil, ""),
		"broken":          answer(500, nil, "no"),
		"a login page":    answer(200, map[string]string{"Content-Type": "text/html"}, "<html>"),
		"an odd encoding": answer(200, map[string]string{"Content-Encoding": "br"}, "x"),
		"redirected":      redirect,
		"redirected nowhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "ftp://x.example/?"+signature)
			w.WriteHeader(http.StatusFound)
		},
		"a broken connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			p := newPayer(t, handler, func(o *Options) {
				o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			body, err := p.client.Open(t.Context(), File{Type: "Patient", URL: p.URL + "/file?" + signature, Count: -1})
			if err == nil {
				_, err = io.Copy(io.Discard, body)
				_ = body.Close()
			}
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			told := map[string]string{"the error": e.Error(), "what operators see": e.Operator(), "the log": log.String()}
			if e.Err != nil {
				told["its cause"] = e.Err.Error()
			}
			for what, text := range told {
				if strings.Contains(text, "5ec7e7") || strings.Contains(text, "X-Amz") {
					t.Errorf("%s holds the signature: %s", what, text)
				}
			}
		})
	}
}
