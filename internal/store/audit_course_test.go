package store_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestAudit_records_the_course_of_every_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	published := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), "not JSON"))
	failed := begin(t, s, store.NewExport{Payer: "q"}, output("Patient"))
	err := s.InTx(t.Context(), func(tx pgx.Tx) error {
		return s.FailTx(t.Context(), tx, failed.ID, failed.Generation, store.Failure{Code: "timeout", Text: "what the payer said"})
	})
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.AuditEvents(t.Context(), store.AuditFilter{All: true, OldestFirst: true}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		if e.Action != store.ActionMigrate {
			got = append(got, fmt.Sprint(e.Action, " ", e.Object, " ", e.Actor, " ", e.Source, " ", e.Details))
		}
	}
	want := []string{
		"export start export 1 ingestd daemon map[kind:full payer:p trigger:manual]",
		"export publish export 1 ingestd daemon map[deleted:0 ghosts:0 inserted:1 kind:full lines:2 payer:p quarantined:1 updated:0]",
		"export start export 2 ingestd daemon map[kind:full payer:q trigger:manual]",
		"export fail export 2 ingestd daemon map[code:timeout kind:full payer:q]",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}

	// What operators did is not lost among it.
	lines, err := s.Quarantine(t.Context(), store.QuarantineFilter{ExportID: published.ID}, 10)
	if err != nil || len(lines) != 1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if _, raw, err := s.ShowQuarantined(t.Context(), lines[0].ID, store.Actor{Name: "an auditor", Source: store.SourceCLI}); err != nil || string(raw) != "not JSON" {
		t.Fatalf("got %q, %v", raw, err)
	}
	acts, err := s.AuditEvents(t.Context(), store.AuditFilter{}, 1)
	if err != nil || len(acts) != 1 || acts[0].Action != store.ActionShowQuarantine || acts[0].Actor != "an auditor" || acts[0].Object != "export 1" {
		t.Errorf("got %+v, %v, want who looked at a line", acts, err)
	}

	// Page by page, and each event once.
	var paged []int64
	for after := int64(0); ; {
		page, err := s.AuditEvents(t.Context(), store.AuditFilter{All: true, OldestFirst: true, After: after}, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			paged = append(paged, e.ID)
			after = e.ID
		}
		if len(page) < 2 {
			break
		}
	}
	if len(paged) != len(events)+1 {
		t.Errorf("%d events in pages, want %d", len(paged), len(events)+1)
	}
	if before, err := s.AuditEvents(t.Context(), store.AuditFilter{All: true, Until: events[0].At}, 10); err != nil || len(before) != 0 {
		t.Errorf("got %d events before the first, %v", len(before), err)
	}
}
