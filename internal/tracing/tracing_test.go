package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ingestd/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newProvider(t *testing.T, url string) *Provider {
	t.Helper()
	p, err := New(t.Context(), Options{
		Config: config.Tracing{Endpoint: url, SampleRatio: 1}, Logger: slog.New(slog.DiscardHandler), Version: "test", Instance: "i",
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestShutdown_sends_what_waits(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	p := newProvider(t, server.URL)
	Root(t.Context(), p.Tracer(), Export{ID: 1, CreatedAt: time.Now()}, "export").End()
	for range 2 { // twice is once
		if err := p.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

func TestShutdown_ends_in_time_although_the_collector_does_not_answer(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(hang)
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	p := newProvider(t, server.URL)
	Root(t.Context(), p.Tracer(), Export{ID: 1, CreatedAt: time.Now()}, "export").End()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Shutdown(ctx) }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("nobody took the traces, and nothing is said of it")
		}
	case <-time.After(time.Minute):
		t.Fatal("the shutdown hangs")
	}
}

func TestProvider_without_an_endpoint_traces_nothing(t *testing.T) {
	p, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, span := p.Tracer().Start(t.Context(), "x"); span.IsRecording() {
		t.Error("it traces")
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHandler_adds_what_the_record_does_not_have(t *testing.T) {
	var buffer bytes.Buffer
	logger := slog.New(Handler(slog.NewJSONHandler(&buffer, nil), LogOptions{Instance: "host/1", Traced: true}))
	x := Export{ID: 7, Payer: "p", CreatedAt: time.Unix(1, 0)}
	ctx := Below(t.Context(), x)
	logger.InfoContext(ctx, "bare")
	logger.InfoContext(ctx, "own", "payer", "p", "export_id", 7)
	logger.With("payer", "p", "export_id", 7).InfoContext(ctx, "with")
	logger.InfoContext(t.Context(), "outside")
	traceID, _ := identify(x.ID, x.CreatedAt)
	for line := range strings.Lines(buffer.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		inside := record["msg"] != "outside"
		if (record["export_id"] == 7.0) != inside || (record["payer"] == "p") != inside || (record["trace_id"] == traceID.String()) != inside ||
			record["instance"] != "host/1" || strings.Count(line, "export_id") > 1 || strings.Count(line, "payer") > 1 {
			t.Errorf("got %s", line)
		}
	}
}

func TestIdentify_tells_exports_apart(t *testing.T) {
	at := time.Unix(100, 0)
	a, rootA := identify(1, at)
	again, rootAgain := identify(1, at.UTC())
	b, _ := identify(2, at)
	c, _ := identify(1, at.Add(time.Microsecond)) // of another database
	if a != again || rootA != rootAgain || a == b || a == c || !a.IsValid() || !rootA.IsValid() {
		t.Errorf("got %s, %s, %s, %s", a, again, b, c)
	}
}

func TestComplaints_come_now_and_then(t *testing.T) {
	var buffer bytes.Buffer
	c := &complaints{logger: slog.New(slog.NewTextHandler(&buffer, nil))}
	for range 100 {
		c.Handle(context.DeadlineExceeded)
	}
	if n := strings.Count(buffer.String(), "traces are lost"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
}
