package scheduler

import (
	"fmt"
	"net/http"
	"testing"

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
