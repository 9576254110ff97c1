package scheduler

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// group is a payer whose group gets a member between two exports: the first holds Patient a, the second, which asks for
// changes, Patient b alone.
func group(t *testing.T, policy string) *payer {
	t.Helper()
	p := newPayer(t, func(c *config.Payer) {
		c.Export.Level, c.Export.GroupID, c.Export.Newcomers = "group", "42", policy
	})
	p.request = p.url + "/fhir/Group/42/$export"
	p.onFile = func(w http.ResponseWriter) {
		p.mu.Lock()
		last := p.asked[len(p.asked)-1]
		p.mu.Unlock()
		if strings.Contains(last, "_since") {
			fmt.Fprintln(w, `{"resourceType":"Patient","id":"b"}`)
			return
		}
		fmt.Fprintln(w, `{"resourceType":"Patient","id":"a"}`)
		fmt.Fprintln(w, `{"resourceType":"Patient","id":"b"}`)
		fmt.Fprintln(w, `{"resourceType":"Patient","id":"old-claim-of-b"}`)
	}
	return p
}

// firstAndNext publishes an export that holds Patient a alone, and then one of what changed since.
func firstAndNext(t *testing.T, s *store.Store, e *Engine, p *payer) {
	t.Helper()
	whole := p.onFile
	p.onFile = func(w http.ResponseWriter) { fmt.Fprintln(w, `{"resourceType":"Patient","id":"a"}`) }
	for range 2 {
		id, err := e.Start(t.Context(), "p", RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
		p.onFile = whole
	}
}

func published(t *testing.T, s *store.Store, kind string) func() bool {
	t.Helper()
	return func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE kind = $1 AND state IN ('published', 'failed')`, kind) > 0
	}
}

func TestINC5_the_history_of_a_newcomer_is_asked_for(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := group(t, "backfill")
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	firstAndNext(t, s, e, p)
	wait(t, "the back-fill", published(t, s, "backfill"))
	p.mu.Lock()
	asked := p.asked
	p.mu.Unlock()
	if len(asked) != 3 || !strings.Contains(asked[2], `"Patient/b"`) || strings.Contains(asked[2], "Patient/a") ||
		strings.Contains(asked[2], "_since") {
		t.Fatalf("kick-offs: %q; want a third one, for Patient/b alone and without _since", asked)
	}
	if got := number(t, s, `SELECT count(*) FROM fhir.patient WHERE id = 'old-claim-of-b'`); got != 1 {
		t.Error("the newcomer's history was not loaded")
	}
	if got := number(t, s, `SELECT count(*) FROM ingest.newcomer`); got != 0 {
		t.Errorf("%d newcomers are still waited for", got)
	}
	if got := number(t, s, `SELECT count(*) FROM ingest.watermark AS w JOIN ingest.export AS e ON e.id = w.export_id WHERE e.kind = 'backfill'`); got != 0 {
		t.Error("a back-fill moved the watermark, which says nothing of the others")
	}
	states, err := s.PayerStates(t.Context())
	if err != nil || states["p"].Published.Kind != store.KindIncremental {
		t.Errorf("the last published export: got %s (%v), want the incremental one, by which freshness counts", states["p"].Published.Kind, err)
	}
}

func TestINC5_a_back_fill_that_was_incomplete_is_asked_for_again_after_the_next_export_and_not_at_once(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := group(t, "backfill")
	p.Config.Load.ErrorsMaxShare = 1
	whole := p.onFile
	p.onFile = func(w http.ResponseWriter) {
		whole(w)
		p.mu.Lock()
		defer p.mu.Unlock()
		if strings.Contains(p.asked[len(p.asked)-1], "Patient/b") && len(p.asked) == 3 {
			fmt.Fprintln(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception"}]}`)
		}
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	firstAndNext(t, s, e, p)
	wait(t, "the back-fill", published(t, s, "backfill"))
	if got := number(t, s, `SELECT count(*) FROM ingest.newcomer WHERE patient_id = 'b'`); got != 1 {
		t.Error("the newcomer is forgotten, though something of it may be missing")
	}
	if got := number(t, s, `SELECT count(*) FROM ingest.export WHERE kind = 'backfill'`); got != 1 {
		t.Errorf("got %d back-fills, want it not asked for again at once", got)
	}
	wait(t, "the end of the back-fill", func() bool {
		_, err := e.Start(t.Context(), "p", RunOptions{})
		return err == nil
	})
	wait(t, "the second back-fill", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE kind = 'backfill' AND state = 'published'`) == 2
	})
	if got := number(t, s, `SELECT count(*) FROM ingest.newcomer`); got != 0 {
		t.Errorf("%d newcomers are still waited for after a back-fill without errors", got)
	}
}

func TestINC5_a_payer_that_exports_no_single_patients_gets_a_full_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := group(t, "backfill")
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n == 3 {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		return n != 3
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	firstAndNext(t, s, e, p)
	wait(t, "the back-fill", published(t, s, "backfill"))
	wait(t, "the clean-up", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE state NOT IN ('published', 'failed')`) == 0
	})
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	x, err := s.Export(t.Context(), id)
	if err != nil || x.Kind != store.KindFull {
		t.Errorf("the next export is %s (%v), want a full one", x.Kind, err)
	}
	if got := number(t, s, `SELECT count(*) FROM ingest.newcomer`); got != 0 {
		t.Errorf("%d newcomers are still waited for after the full export", got)
	}
	request, err := e.newExport(t.Context(), p.Config, RunOptions{})
	if err != nil || request.Kind != store.KindIncremental {
		t.Errorf("the export after that is %s (%v), want an incremental one", request.Kind, err)
	}
}

func TestINC5_newcomers_are_what_the_configuration_makes_of_them(t *testing.T) {
	t.Parallel()
	for policy, kind := range map[string]store.Kind{"full": store.KindFull, "ignore": store.KindIncremental} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := group(t, policy)
			e := newEngine(t, s, Options{}, p)
			work(t, e)
			firstAndNext(t, s, e, p)
			request, err := e.newExport(t.Context(), p.Config, RunOptions{})
			if err != nil || request.Kind != kind {
				t.Errorf("the next export is %s (%v), want %s", request.Kind, err, kind)
			}
			if got := number(t, s, `SELECT count(*) FROM ingest.export WHERE kind = 'backfill'`); got != 0 {
				t.Errorf("back-fills: got %d, want none", got)
			}
		})
	}
}

func TestNewcomers_are_only_those_of_an_incremental_export_of_a_group(t *testing.T) {
	t.Parallel()
	p := config.Payer{Export: config.Export{Level: "group", Newcomers: "backfill"}}
	for _, test := range []struct {
		change func(*config.Payer, *store.Export)
		want   store.Newcomers
	}{
		{func(*config.Payer, *store.Export) {}, store.NewcomersBackfill},
		{func(p *config.Payer, _ *store.Export) { p.Export.Newcomers = "full" }, store.NewcomersFull},
		{func(p *config.Payer, _ *store.Export) { p.Export.Newcomers = "ignore" }, ""},
		{func(_ *config.Payer, x *store.Export) { x.Queue = "run-1" }, store.NewcomersFull},
		{func(_ *config.Payer, x *store.Export) { x.Kind = store.KindFull }, ""},
		{func(_ *config.Payer, x *store.Export) { x.Kind = store.KindBackfill }, ""},
		{func(p *config.Payer, _ *store.Export) { p.Export.Level = "system" }, ""},
		{func(p *config.Payer, _ *store.Export) { p.Export.Patients = []string{"Patient/1"} }, ""},
	} {
		payer, x := p, store.Export{Kind: store.KindIncremental}
		test.change(&payer, &x)
		if got := newcomers(payer, x); got != test.want {
			t.Errorf("%+v, %+v: got %q, want %q", payer.Export, x, got, test.want)
		}
	}
}
