package scheduler

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	wire "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
	"ingestd/internal/tracing"
)

// otlpReceiver takes traces as a collector does.
type otlpReceiver struct {
	url string

	mu    sync.Mutex
	spans map[string][]*wire.Span // by the instance that sent them
	raw   bytes.Buffer            // all bodies, as protobuf
	auth  map[string]bool         // values of Authorization
}

func newOTLPReceiver(t *testing.T) *otlpReceiver {
	t.Helper()
	r := &otlpReceiver{spans: make(map[string][]*wire.Span), auth: make(map[string]bool)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/v1/traces" || request.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("traces came to %s as %s", request.URL.Path, request.Header.Get("Content-Type"))
		}
		body := io.Reader(request.Body)
		if request.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unpacked
		}
		data, err := io.ReadAll(body)
		var message collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &message)
		}
		if err != nil {
			t.Error(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw.Write(data)
		r.auth[request.Header.Get("Authorization")] = true
		for _, resource := range message.GetResourceSpans() {
			instance := ""
			for _, attribute := range resource.GetResource().GetAttributes() {
				if attribute.GetKey() == "service.instance.id" {
					instance = attribute.GetValue().GetStringValue()
				}
			}
			for _, scope := range resource.GetScopeSpans() {
				r.spans[instance] = append(r.spans[instance], scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// provider is what sends the traces of an instance.
func (r *otlpReceiver) provider(t *testing.T, instance string, ratio float64) *tracing.Provider {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("Bearer collector\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := tracing.New(t.Context(), tracing.Options{
		Config:  config.Tracing{Endpoint: r.url, Headers: map[string]string{"Authorization": "file:" + token}, SampleRatio: ratio},
		Resolve: func(ctx context.Context, s config.Secret) ([]byte, error) { return s.Resolve(ctx) }, Logger: slog.New(slog.DiscardHandler), Version: "test", Instance: instance,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func attributes(span *wire.Span) map[string]string {
	found := make(map[string]string)
	for _, a := range span.GetAttributes() {
		found[a.GetKey()] = a.GetValue().GetStringValue()
		if found[a.GetKey()] == "" {
			found[a.GetKey()] = fmt.Sprint(a.GetValue().GetIntValue())
		}
	}
	return found
}

// headersSeen remembers the names of the headers that a payer was sent.
type headersSeen struct {
	mu    sync.Mutex
	names map[string]bool
}

func (h *headersSeen) RoundTrip(request *http.Request) (*http.Response, error) {
	h.mu.Lock()
	for name := range request.Header {
		h.names[strings.ToLower(name)] = true
	}
	h.mu.Unlock()
	return http.DefaultTransport.RoundTrip(request)
}

func TestTraces_of_an_export_are_one_over_instances(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	seen := &headersSeen{names: make(map[string]bool)}
	var err error
	if p.Client, err = export.New(export.Options{Payer: p.Config, Authorized: seen, Plain: seen}); err != nil {
		t.Fatal(err)
	}
	lines := patients(3000)
	p.onFile = func(w http.ResponseWriter) {
		for i, line := range lines {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
			if i%100 == 99 {
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond) // the pace of a slow payer
			}
		}
	}
	receiver := newOTLPReceiver(t)
	var log syncBuffer
	logger := slog.New(tracing.Handler(slog.NewJSONHandler(&log, nil), tracing.LogOptions{Traced: true}))
	firstTraces, secondTraces := receiver.provider(t, "first", 1), receiver.provider(t, "second", 1)
	options := Options{Tuning: Tuning{ChunkBytes: 8 << 10}, Tracer: firstTraces.Tracer(), Logger: logger}
	stop := work(t, newEngine(t, s, options, p))
	id, err := newEngine(t, s, Options{}, p).Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the first chunks", func() bool { return number(t, s, `SELECT coalesce(sum(lines), 0) FROM ingest.export_file`) > 300 })
	stop()
	options.Tracer = secondTraces.Tracer()
	stop = work(t, newEngine(t, s, options, p))
	wait(t, "the clean-up", func() bool {
		return state(t, s, id) == store.StatePublished && number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NULL`) == 0
	})
	stop()
	for _, traces := range []*tracing.Provider{firstTraces, secondTraces} {
		if err := traces.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	if len(receiver.spans["first"]) == 0 || len(receiver.spans["second"]) == 0 {
		t.Fatalf("spans came from %d instances, want 2", len(receiver.spans))
	}
	traces, byID, names := make(map[string]bool), make(map[string]*wire.Span), make(map[string]int)
	var root *wire.Span
	chunksOf := make(map[string]int)
	for _, spans := range receiver.spans {
		for _, span := range spans {
			traces[hex.EncodeToString(span.GetTraceId())] = true
			byID[string(span.GetSpanId())] = span
			names[span.GetName()]++
			if len(span.GetParentSpanId()) == 0 {
				root = span
			}
			if span.GetName() == spanChunk {
				chunksOf[string(span.GetParentSpanId())]++
			}
			if a := attributes(span); a["payer"] != "p" || a["export_id"] != fmt.Sprint(id) {
				t.Errorf("%s says %v, want the payer and the export", span.GetName(), a)
			}
			for key, value := range attributes(span) {
				if strings.ContainsAny(value, "?/&= ") {
					t.Errorf("%s says %s=%s", span.GetName(), key, value)
				}
			}
		}
	}
	if len(traces) != 1 || root == nil {
		t.Fatalf("got %d traces, root %v; want one with a root: %v", len(traces), root, names)
	}
	if a := attributes(root); root.GetName() != spanExport || names[spanExport] != 1 || a["state"] != "published" || a["lines"] != "3000" {
		t.Errorf("the root is %s with %v", root.GetName(), a)
	}
	for _, name := range []string{spanKickOff, spanPoll, spanFile, spanChunk, spanPublish, spanCleanUp} {
		if names[name] == 0 {
			t.Errorf("there is no span %s: %v", name, names)
		}
	}
	for _, span := range byID {
		parent := byID[string(span.GetParentSpanId())]
		want := spanExport
		if span.GetName() == spanChunk {
			want = spanFile
		}
		if span != root && (parent == nil || parent.GetName() != want) {
			t.Errorf("%s stands below %v, want %s", span.GetName(), parent, want)
		}
		if span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
			t.Errorf("%s ends before it begins", span.GetName())
		}
	}
	for _, n := range chunksOf {
		if n > chunkSpans {
			t.Errorf("a load has %d spans of chunks, want at most %d", n, chunkSpans)
		}
	}
	if names[spanChunk] <= chunkSpans/2 {
		t.Errorf("only %d chunks: the bound is not tried", names[spanChunk])
	}
	for _, secret := range []string{"http", "127.0.0.1", "Patient/", "resourceType", "/file", "/status"} {
		if bytes.Contains(receiver.raw.Bytes(), []byte(secret)) {
			t.Errorf("the traces hold %q", secret)
		}
	}
	if len(receiver.auth) != 1 || !receiver.auth["Bearer collector"] {
		t.Errorf("the collector was shown %v, want the header of the configuration", receiver.auth)
	}
	seen.mu.Lock()
	for _, name := range []string{"traceparent", "tracestate", "baggage"} {
		if seen.names[name] {
			t.Errorf("the payer was sent %s", name)
		}
	}
	seen.mu.Unlock()
	checkTraceInLog(t, log.String(), traces)
}

// checkTraceInLog looks whether each record of the export names its trace.
func checkTraceInLog(t *testing.T, log string, traces map[string]bool) {
	t.Helper()
	told := 0
	for line := range strings.Lines(log) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["export_id"] == nil {
			continue
		}
		told++
		if id, _ := record["trace_id"].(string); !traces[id] {
			t.Errorf("the log does not name the trace: %s", line)
		}
	}
	if told < 4 {
		t.Errorf("%d records of the export only", told)
	}
}

func TestTraces_of_an_export_that_is_not_sampled_are_not_sent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = func(w http.ResponseWriter) { io.WriteString(w, patients(1)[0]) }
	receiver := newOTLPReceiver(t)
	traces := receiver.provider(t, "only", 0)
	stop := work(t, newEngine(t, s, Options{Tracer: traces.Tracer()}, p))
	id, err := newEngine(t, s, Options{}, p).Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	stop()
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	if len(receiver.spans) != 0 {
		t.Errorf("got spans of %d instances, want none", len(receiver.spans))
	}
}

func TestTraces_tell_of_a_failure_by_its_code(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onKickOff = func(w http.ResponseWriter, _ int) bool {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","diagnostics":"Jane Doe may not"}]}`)
		return false
	}
	receiver := newOTLPReceiver(t)
	traces := receiver.provider(t, "only", 1)
	stop := work(t, newEngine(t, s, Options{Tracer: traces.Tracer()}, p))
	id, err := newEngine(t, s, Options{}, p).Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the clean-up", func() bool {
		return state(t, s, id) == store.StateFailed && number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NULL`) == 0
	})
	stop()
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	failed := make(map[string]bool)
	for _, span := range receiver.spans["only"] {
		if span.GetStatus().GetCode() == wire.Status_STATUS_CODE_ERROR && attributes(span)["error_code"] == "forbidden" {
			failed[span.GetName()] = true
		}
	}
	if !failed[spanExport] || !failed[spanKickOff] {
		t.Errorf("failed spans: %v, want the kick-off and the export", failed)
	}
	if bytes.Contains(receiver.raw.Bytes(), []byte("Jane")) {
		t.Error("the traces hold what the payer said")
	}
}
