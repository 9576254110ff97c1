package export

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// http2Client starts a server that speaks HTTP/2, and returns a client for it.
func http2Client(t *testing.T, server *httptest.Server) *Client {
	t.Helper()
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return newClient(t, server.URL, func(o *Options) { o.Payer.TLS.CAFile = ca })
}

func TestKICK7_aLostAnswerIsNotRepeatedOverHTTP2(t *testing.T) {
	t.Parallel()
	var kickOffs atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Connection") != "" {
			t.Errorf("got %s with %v, want HTTP/2", r.Proto, r.Header)
		}
		switch {
		case !strings.HasSuffix(r.URL.Path, "/$export"):
			w.WriteHeader(http.StatusAccepted)
		case kickOffs.Add(1) == 1:
			panic(http.ErrAbortHandler)
		default:
			accepted(w, r)
		}
	}))
	c := http2Client(t, server)
	if _, err := c.Poll(t.Context(), server.URL+"/status"); err != nil {
		t.Fatal(err)
	}
	_, err := c.KickOff(t.Context(), KickOffRequest{})
	wantError(t, err, CodeUnanswered, ActionRetry)
	if got := kickOffs.Load(); got != 1 {
		t.Errorf("the payer got %d kick-offs, want 1", got)
	}
	if _, err = c.KickOff(t.Context(), KickOffRequest{}); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestFILE6_aCutFileIsNeverWholeOverHTTP2(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("got %s, want HTTP/2", r.Proto)
		}
		_, _ = w.Write([]byte(twoPatients))
		if r.URL.Path == "/cut" {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	c := http2Client(t, server)
	got, body, err := fetch(t.Context(), c, File{Type: "Patient", URL: server.URL + "/whole"})
	if err != nil || got != twoPatients || body.CloseDelimited() {
		t.Errorf("got %q, %v", got, err)
	}
	got, _, err = fetch(t.Context(), c, File{Type: "Patient", URL: server.URL + "/cut"})
	wantError(t, err, CodeFileTruncated, ActionRetry)
	if !strings.HasPrefix(twoPatients, got) {
		t.Errorf("got %q", got)
	}
}

// BenchmarkOpen reads a file as the loader does, plain and compressed.
func BenchmarkOpen(b *testing.B) {
	data := string(benchmarkData())
	for name, content := range map[string]string{"plain": data, "gzip": zip(b, data)} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewServer(answer(200, map[string]string{"Content-Type": "application/fhir+ndjson"}, content))
			defer server.Close()
			c := newClient(b, server.URL)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				body, err := c.Open(b.Context(), File{Type: "ExplanationOfBenefit", URL: server.URL + "/f"})
				if err != nil {
					b.Fatal(err)
				}
				lines := NewLineReader(body, 0)
				for err == nil {
					_, err = lines.Next()
				}
				lines.Close()
				if err := body.Close(); err != nil {
					b.Fatal(err)
				}
				if !body.Complete() {
					b.Fatal("the file was not read to its end")
				}
			}
		})
	}
}
