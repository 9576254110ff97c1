package store_test

import (
	"context"
	"testing"

	"ingestd/internal/store"
)

func TestRepairText_loads_what_jsonb_cannot_hold_and_knows_it_again(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := output("Patient", `{"resourceType":"Patient","id":"a","note":"x\u0000y"}`, `{"resourceType":"Patient","id":"b","note":"\ud800"}`,
		patient("c", "", "1"), `{"resourceType":"Patient","id":"d","note":"\u0000",}`)
	load := func() (store.File, store.Export) {
		t.Helper()
		e := begin(t, s, store.NewExport{}, file)
		lease, err := s.LockFile(t.Context(), e.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.File(t.Context(), e.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		f, err = s.LoadFile(t.Context(), lease, e, f, store.LoadOptions{
			RepairText: true, Open: func(context.Context) (store.LineSource, error) { return &lines{text: file.lines}, nil },
		})
		lease.Release(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		loaded(t, s, e, 0)
		published, err := publish(t, s, e.ID, permissive)
		if err != nil {
			t.Fatal(err)
		}
		return f, published
	}
	f, first := load()
	if f.Repaired != 2 || first.Inserted != 3 || first.Quarantined != 1 {
		t.Errorf("got %d lines repaired, %+v", f.Repaired, first.Ledger)
	}
	var n int
	err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM fhir.patient
		WHERE id = 'a' AND resource ->> 'note' = E'x\ufffdy' OR id = 'b' AND resource ->> 'note' = E'\ufffd'`).Scan(&n)
	if err != nil || n != 2 {
		t.Errorf("%d rows hold what they should, %v", n, err)
	}
	if stored, err := s.File(t.Context(), first.ID, 0); err != nil || stored.Repaired != 2 {
		t.Errorf("the file counts %d repaired lines, %v", stored.Repaired, err)
	}
	if f, second := load(); second.Unchanged != 3 || second.Inserted+second.Updated != 0 || f.Repaired != 0 {
		t.Errorf("the same again: %d lines repaired, %+v", f.Repaired, second.Ledger)
	}
}

func TestRepairText_keeps_a_line_that_cannot_be_loaded_all_the_same_as_it_was_sent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sent := []string{`{"resourceType":"Patient","note":"\u0000"}`, `{"resourceType":"Patient","id":"b","note":"\u0000","n":1e999999}`}
	e := begin(t, s, store.NewExport{}, output("Patient", sent...))
	lease, err := s.LockFile(t.Context(), e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(t.Context())
	f, err := s.File(t.Context(), e.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.LoadFile(t.Context(), lease, e, f, store.LoadOptions{
		RepairText: true, Open: func(context.Context) (store.LineSource, error) { return &lines{text: sent}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s.Quarantine(t.Context(), store.QuarantineFilter{ExportID: e.ID}, 10)
	if err != nil || len(kept) != len(sent) {
		t.Fatalf("in quarantine are %+v, %v", kept, err)
	}
	for i, line := range kept {
		if _, raw, err := s.ShowQuarantined(t.Context(), line.ID, store.Actor{Name: "an operator"}); err != nil || string(raw) != sent[i] {
			t.Errorf("%s: got %q, %v, want %q", line.Reason, raw, err, sent[i])
		}
	}
}
