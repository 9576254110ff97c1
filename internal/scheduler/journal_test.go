package scheduler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/exportlog"
)

// logged are the events of an export's log.
func logged(t *testing.T, dir string, id int64) (events []string, details []map[string]any, text string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("p-%d.ndjson", id)))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var e struct {
			EventID     string
			EventDetail map[string]any
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events, details = append(events, e.EventID), append(details, e.EventDetail)
	}
	return events, details, string(raw)
}

func TestJournal_tells_a_payer_what_was_asked_and_what_came(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := t.TempDir()
	p := newPayer(t, func(c *config.Payer) { c.Export.Log, c.Export.Types = dir, []string{"Patient"} })
	polls := 0
	p.onStatus = func(w http.ResponseWriter, _ string) bool {
		polls++
		switch polls {
		case 1:
			w.Header().Set("X-Progress", "30%")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusAccepted)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"transient","diagnostics":"patient Mary"}]}`)
		}
		return polls > 2
	}
	p.onFile = onePatient
	e := newEngine(t, s, Options{ExportLog: &exportlog.Log{}}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stop := work(t, e)
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NOT NULL`) == 1
	})
	stop()
	events, details, text := logged(t, dir, id)
	want := []string{
		"kickoff", "status_progress", "status_error", "status_complete", "manifest_complete", "download_request", "download_complete",
		"export_complete",
	}
	if !slices.Equal(events, want) {
		t.Fatalf("got %v, want %v", events, want)
	}
	asked, _ := details[0]["requestParameters"].(map[string]any)
	if details[0]["exportUrl"] != p.url+"/fhir/$export" || asked["_type"] != "Patient" || details[0]["errorCode"] != nil {
		t.Errorf("kickoff: %v", details[0])
	}
	if details[1]["xProgress"] != "30%" || details[2]["code"] != 503.0 || details[4]["totalOutputFileCount"] != 1.0 {
		t.Errorf("got %v, %v, %v", details[1], details[2], details[4])
	}
	if details[6]["fileUrl"] != p.url+"/file" || details[6]["resourceCount"] != 1.0 || details[7]["resources"] != 1.0 {
		t.Errorf("got %v, %v", details[6], details[7])
	}
	if strings.Contains(text, "Mary") {
		t.Error("the log holds what the payer said, which may name patients")
	}
}

func TestJournal_tells_why_a_kick_off_was_refused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := t.TempDir()
	p := newPayer(t, func(c *config.Payer) { c.Export.Log = dir })
	p.onKickOff = func(w http.ResponseWriter, _ int) bool {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return false
	}
	e := newEngine(t, s, Options{ExportLog: &exportlog.Log{}}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stop := work(t, e)
	wait(t, "the end", func() bool { return !state(t, s, id).Active() })
	stop()
	events, details, _ := logged(t, dir, id)
	if !slices.Equal(events, []string{"kickoff"}) || details[0]["errorCode"] != 422.0 || details[0]["errorBody"] == nil {
		t.Errorf("got %v, %v; want one kickoff with its error", events, details)
	}
}
