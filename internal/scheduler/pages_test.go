package scheduler

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestMAN11_nothing_is_visible_of_an_export_whose_last_page_fails(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.PartialManifests = true })
	p.onFile = onePatient
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	end := func() store.Export {
		t.Helper()
		id, err := e.Start(t.Context(), "p", RunOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
		x, err := s.Export(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	first := end()
	p.onFile = func(w http.ResponseWriter) { fmt.Fprintln(w, `{"resourceType":"Patient","id":"new"}`) }
	p.top = `,"link":[{"relation":"next","url":"` + p.url + `/status/page2"}]`
	p.onStatus = func(w http.ResponseWriter, n string) bool {
		if n == "page2" {
			w.Header().Set("Content-Type", "application/fhir+json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"exception"}]}`)
		}
		return n != "page2"
	}
	if second := end(); second.State != store.StateFailed {
		t.Errorf("got %s, want it failed", second.State)
	}
	if got := number(t, s, `SELECT count(*) FROM fhir.patient WHERE export_id = $1`, first.ID); got != 1 {
		t.Errorf("readers see %d rows of the first export, want 1", got)
	}
	if got := number(t, s, `SELECT count(*) FROM fhir.patient WHERE id = 'new'`); got != 0 {
		t.Error("readers see what the failed export held")
	}
}

// page answers a status request with a page of a manifest that lists some files by their name, under URLs that differ each
// time, and the next page where it has one.
func (p *payer) page(w http.ResponseWriter, status int, next string, files ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	output := make([]string, len(files))
	for i, name := range files {
		output[i] = fmt.Sprintf(`{"type":"Patient","url":"%s/file/%s?signature=%d"}`, p.url, name, p.signatures.Add(1))
	}
	link := ""
	if next != "" {
		link = fmt.Sprintf(`,"link":[{"relation":"next","url":"%s/status/%s"}]`, p.url, next)
	}
	fmt.Fprintf(w, `{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[%s],"error":[]%s}`,
		strings.Join(output, ","), link)
}

func TestMAN8_pages_are_loaded_while_the_payer_works_and_nothing_twice(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.PartialManifests = true })
	p.files = map[string]string{
		"a": `{"resourceType":"Patient","id":"a"}`, "b": `{"resourceType":"Patient","id":"b"}`, "c": `{"resourceType":"Patient","id":"c"}`,
	}
	var done atomic.Bool
	p.onStatus = func(w http.ResponseWriter, n string) bool {
		switch {
		case !done.Load():
			p.page(w, http.StatusAccepted, "", "a", "b")
		case n == "2":
			p.page(w, http.StatusOK, "", "c")
		default:
			p.page(w, http.StatusOK, "2", "a", "b")
		}
		return false
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	loaded := func() int {
		return number(t, s, `SELECT count(*) FROM ingest.export_file WHERE export_id = $1 AND state = 'loaded'`, id)
	}
	wait(t, "the first page", func() bool { return loaded() == 2 })
	polls := number(t, s, `SELECT polls FROM ingest.export WHERE id = $1`, id)
	wait(t, "two further looks at it", func() bool { return number(t, s, `SELECT polls FROM ingest.export WHERE id = $1`, id) >= polls+2 })
	if got := state(t, s, id); got != store.StatePolling {
		t.Fatalf("the export is %s while the payer works", got)
	}
	if got := number(t, s, `SELECT count(*) FROM pg_tables WHERE schemaname = 'fhir' AND tablename = 'patient'`); got != 0 {
		t.Error("readers see something while the payer works")
	}
	done.Store(true)
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if got := number(t, s, `SELECT count(*) FROM fhir.patient`); got != 3 {
		t.Errorf("%d patients are published, want 3", got)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.read["a"] != 1 || p.read["b"] != 1 || p.read["c"] != 1 {
		t.Errorf("the files were read %v times, want once each", p.read)
	}
}

func TestMAN8_where_a_page_changes_the_export_starts_again_and_loads_the_whole_manifest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.PartialManifests = true })
	p.files = map[string]string{"a": `{"resourceType":"Patient","id":"a"}`, "b": `{"resourceType":"Patient","id":"b"}`}
	var ahead, second atomic.Int64
	p.onStatus = func(w http.ResponseWriter, n string) bool {
		switch {
		case n == "1" && ahead.Add(1) < 3:
			p.page(w, http.StatusAccepted, "", "a", "b")
		case n == "1": // half of what it had said
			p.page(w, http.StatusOK, "", "b")
		case second.Add(1) < 3:
			p.page(w, http.StatusAccepted, "", "a")
		default:
			p.page(w, http.StatusOK, "", "b")
		}
		return false
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
	x, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if x.State != store.StatePublished || x.Restarts != 1 {
		t.Fatalf("got %s (%s) after %d restarts, want it published after one", x.State, x.Error, x.Restarts)
	}
	if got := number(t, s, `SELECT count(*) FROM fhir.patient WHERE id = 'b'`); got != 1 || x.Lines != 1 {
		t.Errorf("got %d rows of %d lines, want what the last manifest lists", got, x.Lines)
	}
}

func TestFILE14_what_expires_first_is_loaded_first(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Limits.Downloads = 1 })
	p.files = map[string]string{}
	output := make([]string, 0, 3)
	for _, f := range []struct{ name, query string }{
		{"never", ""}, {"late", "?X-Amz-Date=20260101T000000Z&X-Amz-Expires=7200"}, {"early", "?X-Amz-Date=20260101T000000Z&X-Amz-Expires=60"},
	} {
		p.files[f.name] = fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, f.name)
		output = append(output, fmt.Sprintf(`{"type":"Patient","url":"%s/file/%s%s"}`, p.url, f.name, f.query))
	}
	p.onStatus = func(w http.ResponseWriter, _ string) bool {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[%s]}`, strings.Join(output, ","))
		return false
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	rows, err := s.Pool().Query(t.Context(), `SELECT substring(url FROM '/file/(\w+)') FROM ingest.export_file ORDER BY loaded_at`)
	if err != nil {
		t.Fatal(err)
	}
	order, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Equal(order, []string{"early", "late", "never"}) {
		t.Errorf("loaded in the order %v (%v)", order, err)
	}
}

func TestFILE14_exports_that_will_not_be_loaded_in_time_are_told_of_once(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	var log syncBuffer
	e := newEngine(t, s, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	warned := func() int {
		t.Helper()
		if err := e.warnOfLate(t.Context()); err != nil {
			t.Fatal(err)
		}
		return strings.Count(log.String(), "expire before they are loaded")
	}
	// Half an hour for one of four files, which are kept for another hour.
	execute(t, s, `UPDATE ingest.export SET state = 'loading', manifest_at = now() - interval '30 minutes',
		expires_at = now() + interval '60 minutes' WHERE id = $1`, id)
	execute(t, s, `INSERT INTO ingest.export_file (export_id, ordinal, place, kind, url, requires_token, state)
		SELECT $1, n, n::text, 'output', 'https://payer.example', false, CASE WHEN n < 2 THEN 'loaded' ELSE 'pending' END
		FROM generate_series(0, 3) AS n`, id)
	if n := warned(); n != 0 {
		t.Errorf("warned of an export whose half is loaded in half of the time")
	}
	execute(t, s, `UPDATE ingest.export_file SET state = 'pending' WHERE ordinal = 1`)
	if first, second := warned(), warned(); first != 1 || second != 1 {
		t.Errorf("warned %d times, and then %d, want once", first, second)
	}
}

func TestATT1_attachments_are_stored_as_they_come_and_nothing_is_fetched(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.onFile = func(w http.ResponseWriter) {
		fmt.Fprintf(w, `{"resourceType":"DocumentReference","id":"d","content":[{"attachment":{"url":"%s/Binary/1"}},`+
			`{"attachment":{"url":"Binary/2"}},{"attachment":{"contentType":"text/plain","data":"aGVsbG8="}}]}`+"\n", p.url)
	}
	p.top = `,"outputOrganizedBy":"Patient"` // any type may stand in the file
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if got := number(t, s, `SELECT count(*) FROM fhir.document_reference WHERE resource #>> '{content,2,attachment,data}' = 'aGVsbG8='`); got != 1 {
		t.Error("the attachment in the resource was not stored")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.elsewhere) > 0 {
		t.Errorf("asked for %v", p.elsewhere)
	}
}
