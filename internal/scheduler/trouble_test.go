package scheduler

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ingestd/internal/export"
	"ingestd/internal/store"
)

func TestTrouble_tells_why_an_export_tries_again_until_that_has_gone_on(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.members = fmt.Sprintf(`},{"type":"Coverage","url":"%s/file/coverage"`, p.url)
	p.files = map[string]string{"coverage": `{"resourceType":"Coverage","id":"c"}` + "\n"}
	const words = "Jane Doe, MRN 4711" // of the payer: not for those who may not see PHI
	var step atomic.Int32              // which one is refused
	refuses := func(w http.ResponseWriter, n int32) bool {
		if step.Load() != n {
			return false
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"transient","diagnostics":%q}]}`, words)
		return true
	}
	p.onKickOff = func(w http.ResponseWriter, _ int) bool { return !refuses(w, 0) }
	p.onStatus = func(w http.ResponseWriter, _ string) bool { return !refuses(w, 1) }
	p.onFile = func(w http.ResponseWriter) {
		if !refuses(w, 2) {
			onePatient(w)
		}
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	trouble := func() store.Trouble {
		x, err := s.Export(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return x.Trouble
	}
	for _, want := range []struct {
		phase export.Phase
		file  int
	}{{export.PhaseKickOff, -1}, {export.PhaseStatus, -1}, {export.PhaseFile, 0}} {
		wait(t, "the trouble of the "+string(want.phase), func() bool {
			return !trouble().At.IsZero() && strings.Contains(trouble().Text, string(want.phase))
		})
		got := trouble()
		if got.Code == "" || !strings.Contains(got.Text, "503") || strings.Contains(got.Text+got.Hint, "Jane") || got.File != want.file {
			t.Errorf("got %+v, want the refusal of the %s, of file %d, without the payer's words", got, want.phase, want.file)
		}
		if want.phase == export.PhaseFile { // it is not over when another file is loaded
			wait(t, "the other file", func() bool {
				return number(t, s, `SELECT count(*) FROM ingest.export_file WHERE state = 'loaded'`) == 1
			})
			if trouble().At.IsZero() {
				t.Error("a file that was loaded ends the trouble of another one")
			}
		}
		step.Add(1)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if got := trouble(); !got.At.IsZero() {
		t.Errorf("published, and still %+v", got)
	}
}

func TestTrouble_is_not_written_for_each_job_that_fails_alike(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	note := func(file int, code string) time.Time {
		t.Helper()
		if err := s.NoteTrouble(context.Background(), id, 0, file, store.Failure{Code: code, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		x, err := s.Export(t.Context(), id)
		if err != nil || x.Trouble.Code != code {
			t.Fatalf("got %+v, %v", x.Trouble, err)
		}
		return x.Trouble.At
	}
	first := note(3, "server_error")
	if again := note(4, "server_error"); !again.Equal(first) {
		t.Error("the same trouble of another file is written at once")
	}
	if other := note(4, "timeout"); !other.After(first) {
		t.Error("another trouble is not written")
	}
	if err := s.NoteTrouble(t.Context(), id, 1, -1, store.Failure{Code: "late"}); err != nil {
		t.Fatal(err)
	}
	if x, err := s.Export(t.Context(), id); err != nil || x.Trouble.Code != "timeout" {
		t.Errorf("a job of another generation wrote %+v, %v", x.Trouble, err)
	}
}
