package scheduler

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

func TestINC10_types_that_are_new_are_asked_for_alone_and_then_the_others(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.Types = []string{"Patient", "Coverage", "Claim"} })
	p.onStatus = func(w http.ResponseWriter, _ string) bool {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"transactionTime":"2026-03-02T00:00:00Z","requiresAccessToken":false,"output":[]}`)
		return false
	}
	watermarkAt(t, s, p.Config, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "Patient", "Claim")
	var log syncBuffer
	e := newEngine(t, s, Options{Logger: newTextLogger(&log)}, p)
	request, err := e.scheduledExport(t.Context(), p.Config, false)
	if err != nil {
		t.Fatal(err)
	}
	if request.Kind != store.KindFull || !slices.Equal(request.Types, []string{"Coverage"}) || !strings.Contains(log.String(), "types are new") {
		t.Fatalf("got %s of %v, and told: %s", request.Kind, request.Types, log.String())
	}
	var id int64
	err = s.InTx(t.Context(), func(tx pgx.Tx) error {
		if id, err = s.CreateExportTx(t.Context(), tx, request); err != nil {
			return err
		}
		return e.insertTx(t.Context(), tx, startExportArgs{ExportID: id}, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "both exports", func() bool { return number(t, s, `SELECT count(*) FROM ingest.export WHERE state = 'published'`) == 2 })
	p.mu.Lock()
	asked := slices.Clone(p.asked)
	p.mu.Unlock()
	want := []string{"_type=Coverage", "_type=Claim,Patient&_since=2026-03-01T00%3A00%3A00Z"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	request, err = e.scheduledExport(t.Context(), p.Config, false)
	if err != nil || request.Kind != store.KindIncremental || len(request.Types) != 3 {
		t.Errorf("the next one is %s of %v, %v", request.Kind, request.Types, err)
	}

	filtered := p.Config // a filter may name a type that is not asked for then
	filtered.Export.TypeFilters = []string{"Patient?active=true"}
	watermarkAt(t, s, filtered, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "Patient")
	if request, err = e.scheduledExport(t.Context(), filtered, false); err != nil || len(request.Types) != 3 || request.Kind != store.KindFull {
		t.Errorf("with a filter: %s of %v, %v", request.Kind, request.Types, err)
	}
}

func TestINC10_that_other_settings_make_an_export_full_is_said(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Export.Types = []string{"Patient"} })
	watermarkAt(t, s, p.Config, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "Patient")
	var log syncBuffer
	e := newEngine(t, s, Options{Logger: newTextLogger(&log)}, p)
	other := p.Config
	other.Export.GroupID = "another"
	request, err := e.scheduledExport(t.Context(), other, false)
	if err != nil || request.Kind != store.KindFull || !strings.Contains(log.String(), "are others than in the last one") {
		t.Errorf("got %s, %v, and told: %s", request.Kind, err, log.String())
	}

	// An export of all types that is full for another reason is not said to be so for this one, whatever stands beside it.
	all := p.Config
	all.Name, all.Export.Types = "all", nil
	watermarkAt(t, s, all, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "")
	another := all
	another.Export.GroupID = "another"
	watermarkAt(t, s, another, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "")
	execute(t, s, `UPDATE ingest.watermark SET wants_full_at = now()`)
	before := len(log.String())
	request, err = e.scheduledExport(t.Context(), all, false)
	told := log.String()[before:]
	if err != nil || request.Kind != store.KindFull || strings.Contains(told, "are others") || !strings.Contains(told, "not granted before") {
		t.Errorf("got %s, %v, and told: %s", request.Kind, err, told)
	}
}
