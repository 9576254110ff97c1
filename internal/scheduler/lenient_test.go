package scheduler

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

// lenientPayer is a payer whose manifests list an outcome file beside one of Patients.
type lenientPayer struct {
	payer

	mu sync.Mutex
	// refuses is the parameter for which a kick-off is refused, outcome the text of the issue in the outcome file.
	refuses, outcome string
	queries          []string
	count            string            // a member of the manifest's item for the Patients
	reads            int               // of the file of Patients
	headers          map[string]string // of the acceptance and of each status answer
	status           func(w http.ResponseWriter) bool
}

func newLenientPayer(t *testing.T, change func(*config.Payer)) *lenientPayer {
	t.Helper()
	p := &lenientPayer{headers: make(map[string]string)}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter) {
		for name, value := range p.headers {
			w.Header().Set(name, value)
		}
	}
	mux.HandleFunc("GET /fhir/$export", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queries = append(p.queries, r.URL.RawQuery)
		answer(w)
		if p.refuses != "" && r.URL.Query().Has(p.refuses) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","diagnostics":"%s is not supported"}]}`, p.refuses)
			return
		}
		w.Header().Set("Content-Location", fmt.Sprintf("%s/status/%d", p.url, len(p.queries)))
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /status/{n}", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		answer(w)
		if p.status != nil && p.status(w) {
			return
		}
		fmt.Fprintf(w, `{"transactionTime":"2026-01-0%dT00:00:00Z","requiresAccessToken":false,
			"output":[{"type":"Patient","url":"%s/patients"%s}],"error":[{"type":"OperationOutcome","url":"%s/outcomes"}]}`,
			len(p.queries), p.url, p.count, p.url)
	})
	mux.HandleFunc("DELETE /status/{n}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	mux.HandleFunc("GET /patients", func(w http.ResponseWriter, _ *http.Request) {
		p.set(func() { p.reads++ })
		fmt.Fprint(w, strings.Join(patients(3), ""))
	})
	mux.HandleFunc("GET /outcomes", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		fmt.Fprintf(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"warning","diagnostics":%q}]}`, p.outcome)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.url = server.URL
	p.Config = config.Payer{
		Name: "p", FHIRURL: server.URL + "/fhir", Enabled: true, Timezone: "UTC",
		Export: config.Export{Level: "system", Method: "get", Since: "auto", Handling: "lenient", Types: []string{"Patient"}},
		Limits: config.Limits{Downloads: 2, PollMin: 50 * time.Millisecond, PollMax: 100 * time.Millisecond, MaxLine: 1 << 20},
		Load:   config.Loading{History: "deletes", GhostMaxShare: 1, RemoveGhosts: true},
	}
	if change != nil {
		change(&p.Config)
	}
	client, err := export.New(export.Options{Payer: p.Config, Authorized: http.DefaultTransport, Plain: http.DefaultTransport})
	if err != nil {
		t.Fatal(err)
	}
	p.Client = client
	return p
}

// does brings one export of the payer to its end.
func (p *lenientPayer) does(t *testing.T, s *store.Store, e *Engine, o RunOptions) store.Export {
	t.Helper()
	id, err := e.Start(t.Context(), "p", o)
	if err != nil {
		t.Fatal(err)
	}
	var x store.Export
	wait(t, "the end of the export", func() bool {
		if x, err = s.Export(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return !x.State.Active() && !x.CleanedUpAt.IsZero()
	})
	if x.State != store.StatePublished {
		t.Fatalf("the export is %s: %s", x.State, x.Error)
	}
	return x
}

func (p *lenientPayer) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// addGhost publishes a Patient that the payer does not have.
func addGhost(t *testing.T, s *store.Store) {
	t.Helper()
	execute(t, s, `INSERT INTO fhir.patient (payer, id, resource, digest, export_id)
		VALUES ('p', 'ghost', '{"resourceType":"Patient","id":"ghost"}', '\x00', 0)`)
}

func TestKICK10_an_export_whose_since_was_ignored_is_recorded_as_full(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, nil)
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	if first := p.does(t, s, e, RunOptions{}); first.Kind != store.KindFull {
		t.Fatalf("the first export is %s", first.Kind)
	}
	watermark := func() time.Time {
		at, err := s.Watermark(t.Context(), "p", series(p.Config), []string{"Patient"})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := watermark()
	addGhost(t, s)

	// An instant that leaves a gap: were the export incremental, the watermark could not move over it (INC-1).
	late := RunOptions{Since: before.Add(12 * time.Hour)}
	p.set(func() { p.outcome = "Nothing of note." })
	if x := p.does(t, s, e, late); x.Kind != store.KindIncremental || x.Since == "" || !watermark().Equal(before) {
		t.Fatalf("got an export that is %s since %q, watermark %s; want an incremental one, and %s", x.Kind, x.Since, watermark(), before)
	}
	p.set(func() { p.outcome = "The parameter _since was ignored." })
	x := p.does(t, s, e, late)
	if x.Kind != store.KindFull || x.Since != "" || !watermark().After(before) {
		t.Errorf("got an export that is %s since %q, watermark %s; want a full one, that moves the watermark", x.Kind, x.Since, watermark())
	}
	if n := number(t, s, `SELECT count(*) FROM fhir.patient WHERE id = 'ghost'`); n != 1 {
		t.Error("a ghost was removed on the strength of some words")
	}
}

func TestKICK10_types_that_were_ignored_move_no_watermark_and_remove_no_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, nil)
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	p.does(t, s, e, RunOptions{})
	before, err := s.Watermark(t.Context(), "p", series(p.Config), []string{"Patient"})
	if err != nil {
		t.Fatal(err)
	}
	addGhost(t, s)
	p.set(func() { p.outcome = "_type=Patient is not supported, and was ignored" })
	if x := p.does(t, s, e, RunOptions{Full: true}); x.RemovesGhosts || x.Ghosts != 0 {
		t.Errorf("got an export that removes ghosts: %v, %d", x.RemovesGhosts, x.Ghosts)
	}
	after, err := s.Watermark(t.Context(), "p", series(p.Config), []string{"Patient"})
	if err != nil || !after.Equal(before) {
		t.Errorf("got watermark %s, %v; want %s", after, err, before)
	}
	// The same export without such words does both: the test would otherwise prove nothing.
	p.set(func() { p.outcome = "_typeFilter was ignored" })
	if x := p.does(t, s, e, RunOptions{Full: true}); x.Ghosts != 1 {
		t.Errorf("got %d ghosts, want the one", x.Ghosts)
	}
	if after, _ = s.Watermark(t.Context(), "p", series(p.Config), []string{"Patient"}); !after.After(before) {
		t.Errorf("got watermark %s, want a later one than %s", after, before)
	}
}

func TestKICK10_words_are_read_only_where_handling_is_lenient(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, func(p *config.Payer) { p.Export.Handling = "none" })
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	p.does(t, s, e, RunOptions{})
	p.set(func() { p.outcome = "_since was ignored" })
	if x := p.does(t, s, e, RunOptions{}); x.Kind != store.KindIncremental {
		t.Errorf("the export is %s", x.Kind)
	}
}

func TestKICK9_an_export_that_goes_on_without_since_is_a_full_one(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, func(p *config.Payer) { p.Export.SinceOptional = true })
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	p.does(t, s, e, RunOptions{})
	addGhost(t, s)
	p.set(func() { p.refuses = "_since" })
	x := p.does(t, s, e, RunOptions{})
	if x.Kind != store.KindFull || x.Since != "" || x.Ghosts != 1 {
		t.Errorf("got an export that is %s since %q, with %d ghosts; want a full one that removes the ghost", x.Kind, x.Since, x.Ghosts)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queries) != 3 || !strings.Contains(p.queries[1], "_since=") || strings.Contains(p.queries[2], "_since=") {
		t.Errorf("got the kick-offs %q; want the second again without _since", p.queries)
	}
}

func TestPOLL8_the_state_of_the_export_is_read_from_its_own_header(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, func(p *config.Payer) { p.Export.SeparateStatus = true })
	p.headers["Preference-Applied"] = "separate-export-status"
	states := []string{"202 Accepted", "202 Accepted", "200 OK"}
	var told []string
	p.status = func(w http.ResponseWriter) bool {
		state := states[min(len(told), len(states)-1)]
		told = append(told, state)
		w.Header().Set("X-Export-Status", state)
		if state == "200 OK" {
			w.WriteHeader(http.StatusAccepted) // of the request, which says nothing of the export
			return false
		}
		return true
	}
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	if x := p.does(t, s, e, RunOptions{}); !x.SeparateStatus || x.Inserted != 3 {
		t.Errorf("got separate status %v, %d rows", x.SeparateStatus, x.Inserted)
	}
	if !slices.Equal(told, states) {
		t.Errorf("the payer told %q, want %q", told, states)
	}
}
