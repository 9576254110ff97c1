package scheduler

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// withAttachments is a payer of two documents; the first has three attachments, one of them within the resource and one that is
// not there.
func withAttachments(t *testing.T, mode string, change func(*config.Payer)) (*payer, func() string) {
	t.Helper()
	p := newPayer(t, func(c *config.Payer) {
		c.Export.Attachments, c.Limits.AttachmentBytes, c.Load.RemoveGhosts = mode, 1<<20, true
		if change != nil {
			change(c)
		}
	})
	p.files = map[string]string{"a": "first content", "b": "second content"}
	var version atomic.Int64
	p.onStatus = func(w http.ResponseWriter, _ string) bool {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[
			{"type":"DocumentReference","url":"%[1]s/file"},{"type":"Media","url":"%[1]s/file/media"}]}`, p.url)
		return false
	}
	p.files["media"] = fmt.Sprintf(`{"resourceType":"Media","id":"m","content":{"contentType":"image/png","url":"%s/file/b"}}`, p.url)
	p.onFile = func(w http.ResponseWriter) {
		document := fmt.Sprintf(`{"resourceType":"DocumentReference","id":"d","version":%[2]d,"content":[
			{"attachment":{"contentType":"text/plain","url":"%[1]s/file/a","size":13}},
			{"attachment":{"data":"aGVsbG8="}},
			{"attachment":{"contentType":"text/plain","url":"%[1]s/missing"}},
			{"attachment":{"contentType":"text/plain","url":"%[1]s/file/b"}}]}`, p.url, version.Add(1))
		fmt.Fprintln(w, strings.ReplaceAll(document, "\n", ""))
		fmt.Fprintln(w, `{"resourceType":"DocumentReference","id":"none","content":"odd"}`)
	}
	return p, func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Sprint(p.read["a"], p.read["b"], strings.Count(strings.Join(p.elsewhere, " "), "/missing"))
	}
}

func runExport(t *testing.T, e *Engine, s *store.Store) store.Export {
	t.Helper()
	return runWith(t, e, s, RunOptions{Full: true})
}

// runWith lets payer "p" be exported, and returns the export that was published.
func runWith(t *testing.T, e *Engine, s *store.Store, o RunOptions) store.Export {
	t.Helper()
	id, err := e.Start(t.Context(), "p", o)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
	x, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if x.State != store.StatePublished {
		t.Fatalf("the export is %s: %s", x.State, x.Error)
	}
	return x
}

func TestATT2_attachments_are_published_with_their_resources_in_a_table(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, reads := withAttachments(t, "table", nil)
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	first := runExport(t, e, s)
	content := func(id, path string) string {
		t.Helper()
		var text string
		_ = s.Pool().QueryRow(t.Context(), `SELECT convert_from(content, 'UTF8') FROM fhir.attachment
			WHERE payer = 'p' AND resource_id = $1 AND path = $2`, id, path).Scan(&text) // no row: empty
		return text
	}
	if got := content("d", "{content,0,attachment}") + "|" + content("d", "{content,3,attachment}") + "|" + content("m", "{content}"); got != "first content|second content|second content" {
		t.Errorf("got %q", got)
	}
	if got, err := s.Attachments(t.Context(), first.ID); err != nil || got != (store.Attachments{Fetched: 3, Failed: 1, Bytes: 41}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := number(t, s, `SELECT count(*) FROM ingest.attachment WHERE content IS NOT NULL OR reason <> '' AND state <> 'failed'`); got != 0 {
		t.Errorf("%d contents are kept behind the publish", got)
	}
	if got := reads(); got != "1 2 1" {
		t.Errorf("asked for them %s times", got)
	}
	// The document changes, and its attachment with it; the picture does not, and is not asked for again.
	p.mu.Lock()
	p.files["a"] = "third content"
	p.mu.Unlock()
	second := runExport(t, e, s)
	if got := content("d", "{content,0,attachment}"); got != "third content" {
		t.Errorf("got %q after a change", got)
	}
	if got := reads(); got != "2 3 2" {
		t.Errorf("asked for them %s times", got)
	}
	if got := number(t, s, `SELECT count(*) FROM fhir.attachment WHERE export_id = $1`, second.ID); got != 2 {
		t.Errorf("%d attachments are the second export's, want 2", got)
	}
	// The document is gone, and takes its attachments with it.
	p.onFile = func(w http.ResponseWriter) {
		fmt.Fprintln(w, `{"resourceType":"DocumentReference","id":"none","content":"odd"}`)
	}
	runExport(t, e, s)
	if got := number(t, s, `SELECT count(*) FROM fhir.attachment`); got != 1 {
		t.Errorf("%d attachments are left, want the picture", got)
	}
}

func TestATT2_attachments_are_put_into_their_resources(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, reads := withAttachments(t, "inline", func(c *config.Payer) { c.Export.AttachmentTypes = []string{"text/*"} })
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	runExport(t, e, s)
	runExport(t, e, s)
	for path, want := range map[string]string{
		"{content,0,attachment,data}": "first content", "{content,1,attachment,data}": "hello", "{content,2,attachment,data}": "",
		"{content,3,attachment,data}": "second content",
	} {
		var data *string
		if err := s.Pool().QueryRow(t.Context(), `SELECT resource #>> $1::text[] FROM fhir.document_reference WHERE id = 'd'`, path).Scan(&data); err != nil {
			t.Fatal(err)
		}
		got := ""
		if data != nil {
			text, err := base64.StdEncoding.DecodeString(*data)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			got = string(text)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if got := reads(); got != "2 2 2" {
		t.Errorf("asked for them %s times: pictures are not wanted", got)
	}
}

func TestATT2_what_may_pass_is_asked_for_again_before_the_publish(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p, _ := withAttachments(t, "table", nil)
	var refused atomic.Int64
	p.onMissing = func(w http.ResponseWriter) {
		if refused.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "late content")
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	x := runExport(t, e, s)
	if got, err := s.Attachments(t.Context(), x.ID); err != nil || got.Fetched != 4 || got.Failed != 0 || refused.Load() != 3 {
		t.Errorf("got %+v, %v after %d requests for the one that failed", got, err, refused.Load())
	}
}

func TestATT2_what_was_fetched_of_an_unchanged_attachment_stays_where_it_cannot_be_fetched_again(t *testing.T) {
	t.Parallel()
	for mode, query := range map[string]string{
		"table":  `SELECT count(*) FROM fhir.attachment WHERE resource_id = 'd' AND path = '{content,%d,attachment}' AND convert_from(content, 'UTF8') = 'content'`,
		"inline": `SELECT count(*) FROM fhir.document_reference WHERE id = 'd' AND resource #>> '{content,%d,attachment,data}' = 'Y29udGVudA=='`,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := newPayer(t, func(c *config.Payer) { c.Export.Attachments, c.Limits.AttachmentBytes = mode, 1<<20 })
			p.onStatus = func(w http.ResponseWriter, _ string) bool {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[{"type":"DocumentReference","url":"%s/file"}]}`, p.url)
				return false
			}
			var gone atomic.Bool
			var status, second atomic.Value
			p.onMissing = func(w http.ResponseWriter) {
				if gone.Load() {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				fmt.Fprint(w, "content")
			}
			p.onFile = func(w http.ResponseWriter) {
				fmt.Fprintf(w, `{"resourceType":"DocumentReference","id":"d","status":"%[2]s","content":[{"attachment":{"contentType":"text/plain","url":"%[1]s/first"}},`+
					`{"attachment":{"contentType":"text/plain","url":"%[1]s/%[3]s"}},{"attachment":{"contentType":"text/plain","url":"%[1]s/third"}}]}`+"\n",
					p.url, status.Load(), second.Load())
			}
			e := newEngine(t, s, Options{}, p)
			work(t, e)
			holds := func(when string, want ...int) {
				t.Helper()
				for place, n := range want {
					if got := number(t, s, fmt.Sprintf(query, place)); got != n {
						t.Errorf("%s: attachment %d stands %d times, want %d", when, place, got, n)
					}
				}
			}
			status.Store("current")
			second.Store("second")
			runExport(t, e, s)
			holds("at first", 1, 1, 1)
			gone.Store(true)
			status.Store("superseded")
			second.Store("another")
			runExport(t, e, s)
			holds("when the second is another one, and none can be fetched", 1, 0, 1)
			if got := number(t, s, `SELECT count(*) FROM fhir.document_reference WHERE resource->>'status' = 'superseded'`); got != 1 {
				t.Error("the document itself is not the new one")
			}
			status.Store("entered-in-error")
			gone.Store(false)
			runExport(t, e, s)
			holds("when all can be fetched again", 1, 1, 1)
		})
	}
}
