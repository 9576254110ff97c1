package scheduler

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

// patience bounds every wait of these tests.
const patience = 2 * time.Minute

// payer is a payer without authorization whose answers a test decides.
type payer struct {
	Payer
	url string

	mu        sync.Mutex
	kickOffs  []time.Time
	asked     []string // the query of each kick-off, or its body
	deleted   []string
	progress  string   // what it says while it is at work
	elsewhere []string // addresses that were asked for and are none of these
	// onStatus is called with the number of the job before its status is answered; it returns false where it has answered.
	onStatus func(w http.ResponseWriter, n string) bool
	// refusesDeletes is how many DELETEs it answers with 503.
	refusesDeletes int
	// onKickOff is called with the number of the kick-off, from 1; it returns false where it has answered itself.
	onKickOff func(w http.ResponseWriter, n int) bool
	// request is what the manifest says it answers; "" says nothing.
	request string
	// members are further JSON members of the file in the manifest, each with a comma before it.
	members string
	// top are further members of the manifest itself, likewise.
	top string
	// files are further files by their name, under /file/; read counts the requests for each.
	files map[string]string
	read  map[string]int
	// signatures counts the URLs of files that were given out.
	signatures atomic.Int64
	// onMissing answers for addresses that are none of these; nil: 404.
	onMissing func(w http.ResponseWriter)
	// onFile writes the file; nil answers that the export is still at work.
	onFile func(w http.ResponseWriter)
}

// newPayer starts a payer; change may alter its configuration.
func newPayer(t *testing.T, change func(*config.Payer)) *payer {
	t.Helper()
	p := &payer{}
	mux := http.NewServeMux()
	kickOff := func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.RawQuery
		if body, err := io.ReadAll(r.Body); err == nil && r.Method == http.MethodPost {
			asked = string(body)
		}
		p.mu.Lock()
		p.kickOffs = append(p.kickOffs, time.Now())
		p.asked = append(p.asked, asked)
		n := len(p.kickOffs)
		p.mu.Unlock()
		if p.onKickOff == nil || p.onKickOff(w, n) {
			w.Header().Set("Content-Location", fmt.Sprintf("%s/status/%d", p.url, n))
			w.WriteHeader(http.StatusAccepted)
		}
	}
	mux.HandleFunc("GET /fhir/$export", kickOff)
	mux.HandleFunc("/fhir/Group/{group}/$export", kickOff)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.elsewhere = append(p.elsewhere, r.URL.Path)
		p.mu.Unlock()
		if p.onMissing != nil {
			p.onMissing(w)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
	mux.HandleFunc("GET /status/{n}", func(w http.ResponseWriter, r *http.Request) {
		if p.onStatus != nil && !p.onStatus(w, r.PathValue("n")) {
			return
		}
		if p.onFile == nil {
			p.mu.Lock()
			w.Header().Set("X-Progress", p.progress)
			p.mu.Unlock()
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"transactionTime":"2026-01-01T00:00:00Z","request":%q,"requiresAccessToken":false,
			"output":[{"type":"Patient","url":"%s/file"%s}],"error":[]%s}`, p.request, p.url, p.members, p.top)
	})
	mux.HandleFunc("DELETE /status/{n}", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.refusesDeletes > 0 {
			p.refusesDeletes--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		p.deleted = append(p.deleted, r.PathValue("n"))
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+ndjson")
		p.onFile(w)
	})
	mux.HandleFunc("GET /file/{name}", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.read == nil {
			p.read = make(map[string]int)
		}
		p.read[r.PathValue("name")]++
		w.Header().Set("Content-Type", "application/fhir+ndjson")
		fmt.Fprint(w, p.files[r.PathValue("name")])
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.url, p.request = server.URL, server.URL+"/fhir/$export"
	p.Config = config.Payer{
		Name: "p", FHIRURL: server.URL + "/fhir", Enabled: true, Timezone: "UTC",
		Export: config.Export{Level: "system", Method: "get", Since: "auto"},
		Limits: config.Limits{Downloads: 2, PollMin: 100 * time.Millisecond, PollMax: time.Second, MaxLine: 1 << 20},
		Load:   config.Loading{History: "deletes", GhostMaxShare: 1},
	}
	if change != nil {
		change(&p.Config)
	}
	client, err := export.New(export.Options{
		Payer: p.Config, Authorized: http.DefaultTransport, Plain: http.DefaultTransport,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Client = client
	return p
}

func (p *payer) seen() (kickOffs []time.Time, deleted []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(kickOffs, p.kickOffs...), append(deleted, p.deleted...)
}

func newEngine(t *testing.T, s *store.Store, o Options, payers ...*payer) *Engine {
	t.Helper()
	o.Store = s
	for _, p := range payers {
		o.Payers = append(o.Payers, p.Payer)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// work runs an engine until the test ends or stop is called, which returns when it has stopped.
func work(t *testing.T, e *Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the engine ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the engine does not stop")
		}
	})
	t.Cleanup(stop)
	return stop
}

func wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) { // bounded by the deadline
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func number(t *testing.T, s *store.Store, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := s.Pool().QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func execute(t *testing.T, s *store.Store, sql string, args ...any) {
	t.Helper()
	if _, err := s.Pool().Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func state(t *testing.T, s *store.Store, id int64) store.State {
	t.Helper()
	x, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return x.State
}

// patients are n lines of Patients.
func patients(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","note":%q}`, i, strings.Repeat("x", 200)) + "\n"
	}
	return lines
}
