package scheduler

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func newTextLogger(b *syncBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestND9_another_API_version_under_the_same_name_is_warned_of(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, test := range []struct {
		fhirURL string
		warns   string
	}{
		{"https://a.example/api/v2/fhir", ""},
		{"https://a.example/api/v2/fhir", ""},
		{"https://b.example/other/v2/fhir", ""},
		{"https://b.example/other/v3/fhir", "was=v2 is=v3"},
		{"https://b.example/other/v3/fhir/R4", "was=v3 is=v3/r4"},
		{"https://b.example/fhir", "was=v3/r4 is=none"},
	} {
		var log bytes.Buffer
		p := newPayer(t, func(p *config.Payer) { p.FHIRURL = test.fhirURL })
		e := newEngine(t, s, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, p)
		e.noteBases(t.Context(), []string{"p"})
		if warned := strings.Contains(log.String(), "another API version"); warned != (test.warns != "") || !strings.Contains(log.String(), test.warns) {
			t.Errorf("%s: got the log %q, want a warning with %q", test.fhirURL, log.String(), test.warns)
		}
	}
}

func TestND9_the_base_is_noted_when_the_engine_starts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	work(t, newEngine(t, s, Options{}, newPayer(t, nil)))
	wait(t, "the note", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.payer WHERE fhir_url LIKE '%/fhir'`) == 1
	})
}

func TestPOLL10_another_instance_goes_on_polling_from_the_stored_URL(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	first := newEngine(t, s, Options{}, p)
	stop := work(t, first)
	id, err := first.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	polls := func() int { return number(t, s, `SELECT polls FROM ingest.export`) }
	wait(t, "some polls", func() bool { return polls() >= 2 })
	stop()
	before := polls()
	work(t, newEngine(t, s, Options{}, p))
	wait(t, "polls of the other instance", func() bool { return polls() > before })
	if kickOffs, deleted := p.seen(); len(kickOffs) != 1 || len(deleted) != 0 || state(t, s, id) != store.StatePolling {
		t.Errorf("got %d kick-offs, %d DELETEs, state %s; want the one export to go on", len(kickOffs), len(deleted), state(t, s, id))
	}
}

func TestCLN3_a_stop_deletes_nothing_and_what_is_deleted_is_not_polled(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	e := newEngine(t, s, Options{}, p)
	stop := work(t, e)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	polls := func() int { return number(t, s, `SELECT polls FROM ingest.export`) }
	wait(t, "a poll", func() bool { return polls() >= 1 })
	stop()
	if _, deleted := p.seen(); len(deleted) != 0 {
		t.Fatalf("the stop deleted %v at the payer", deleted)
	}
	other := newEngine(t, s, Options{}, p)
	work(t, other)
	before := polls()
	wait(t, "a poll after the restart", func() bool { return polls() > before })
	if err := other.Cancel(t.Context(), id, store.Actor{Name: "a test"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the DELETE", func() bool { _, deleted := p.seen(); return slices.Equal(deleted, []string{"1"}) })
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`) == 1
	})
	wait(t, "the end of all jobs", func() bool {
		return number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'poll_export' AND state IN ('available', 'scheduled', 'running', 'retryable')`) == 0
	})
	after := polls()
	if _, deleted := p.seen(); len(deleted) != 1 || polls() != after || state(t, s, id) != store.StateCanceled {
		t.Errorf("got %d DELETEs, state %s; want one, and no poll after it", len(deleted), state(t, s, id))
	}
}

func TestFILE8_the_reads_of_a_file_are_rationed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, func(p *config.Payer) { p.Limits.DownloadsPerFile = 1 })
	p.count = `,"count":4` // of three lines: the file would be read again
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the end of the export", func() bool { return state(t, s, id) == store.StateFailed })
	p.mu.Lock()
	defer p.mu.Unlock()
	x, err := s.Export(t.Context(), id)
	// A fresh export has files of its own, with a budget of their own.
	if err != nil || p.reads != 2 || len(p.queries) != 2 || !strings.Contains(x.Error+x.Hint, "downloads_per_file") {
		t.Errorf("%d reads after %d kick-offs, %s: %s (%s), %v; want one each, and the budget named", p.reads, len(p.queries), x.ErrorCode, x.Error, x.Hint, err)
	}
}

func TestMAN14_links_that_expired_are_renewed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	var mu sync.Mutex
	asked := 0
	p.onFile = func(w http.ResponseWriter) {
		mu.Lock()
		asked++
		first := asked == 1
		mu.Unlock()
		if first {
			w.WriteHeader(http.StatusGone)
			return
		}
		fmt.Fprint(w, strings.Join(patients(3), ""))
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if kickOffs, _ := p.seen(); len(kickOffs) != 1 {
		t.Errorf("got %d kick-offs, want the one whose manifest was asked for again", len(kickOffs))
	}
	if n := number(t, s, `SELECT count(*) FROM fhir.patient`); n != 3 {
		t.Errorf("got %d patients, want 3", n)
	}
}

func TestPOLL9_an_export_beyond_its_time_is_deleted_and_moves_no_watermark(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(p *config.Payer) { p.Export.Timeout = 500 * time.Millisecond })
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the end of the export", func() bool { return state(t, s, id) == store.StateFailed })
	wait(t, "the DELETE of both jobs", func() bool { _, deleted := p.seen(); return slices.Equal(deleted, []string{"1", "2"}) })
	if n := number(t, s, `SELECT count(*) FROM ingest.watermark`); n != 0 {
		t.Errorf("the watermark moved: %d", n)
	}
}

func TestINC11_full_runs_of_unchanged_data_write_no_row(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newLenientPayer(t, func(p *config.Payer) { p.Export.Since, p.Export.Handling = "never", "none" })
	e := newEngine(t, s, Options{}, &p.payer)
	work(t, e)
	for run := range 3 {
		x := p.does(t, s, e, RunOptions{})
		if x.Kind != store.KindFull || x.Since != "" {
			t.Fatalf("run %d is %s since %q, want a full one", run, x.Kind, x.Since)
		}
		if want := [2]int64{int64(3 * max(0, 1-run)), int64(3 * min(run, 1))}; [2]int64{x.Inserted + x.Updated, x.Unchanged} != want {
			t.Errorf("run %d wrote %d rows and left %d, want %v", run, x.Inserted+x.Updated, x.Unchanged, want)
		}
	}
	if n := number(t, s, `SELECT count(DISTINCT xmin::text) FROM fhir.patient`); n > 1 {
		t.Errorf("the rows were written by %d transactions", n)
	}
	for _, query := range p.queries {
		if strings.Contains(query, "_since") {
			t.Errorf("_since was sent: %s", query)
		}
	}
}

func TestINC8_a_payer_that_ignores_filters_is_loaded_and_told_of(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var log syncBuffer
	p := newLenientPayer(t, func(p *config.Payer) { p.Export.TypeFilters = []string{"Patient?active=true"} })
	p.outcome = "The parameter _typeFilter was ignored."
	e := newEngine(t, s, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, &p.payer)
	work(t, e)
	if x := p.does(t, s, e, RunOptions{}); x.Inserted != 3 || x.RemovesGhosts {
		t.Errorf("got %d rows, removing ghosts: %v; want all that came, and no ghosts removed", x.Inserted, x.RemovesGhosts)
	}
	if !strings.Contains(log.String(), `msg="the payer ignored parameters of the export" payer=p export_id=1 parameters=[_typeFilter]`) {
		t.Errorf("it is not told of:\n%s", log.String())
	}
}
