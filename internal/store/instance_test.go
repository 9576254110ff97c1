package store_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestInstances_that_live_are_compared_and_those_that_are_gone_are_not(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	announce := func(id string, payers map[string]string) {
		t.Helper()
		if err := s.Announce(t.Context(), store.Instance{ID: id, Host: "host-" + id, PID: 7, Version: "1", Digest: id, Payers: payers}); err != nil {
			t.Fatal(err)
		}
	}
	announce("a", map[string]string{"same": "1", "differs": "1", "alone": "1"})
	announce("b", map[string]string{"same": "1", "differs": "2"})
	announce("c", map[string]string{"same": "9"})
	if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.instance SET seen_at = now() - interval '1 minute' WHERE id = 'c'`); err != nil {
		t.Fatal(err)
	}
	got, err := s.Mismatches(t.Context())
	want := map[string]map[string]string{
		"differs": {"host-a/7": "1", "host-b/7": "2"},
		"alone":   {"host-a/7": "1", "host-b/7": ""},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for payer, want := range map[string]bool{"alone": true, "nobodys": false} {
		if got, err := s.IsConfigured(t.Context(), payer); err != nil || got != want {
			t.Errorf("%s: got %t, %v, want %t", payer, got, err, want)
		}
	}
	if known, err := s.Beat(t.Context(), "a", "another digest"); err != nil || known {
		t.Errorf("a beat with another configuration: got %t, %v", known, err)
	}
	if known, err := s.Beat(t.Context(), "c", "c"); err != nil || !known {
		t.Errorf("a beat: got %t, %v", known, err)
	}
	if f, err := s.Figures(t.Context(), nil); err != nil || f.Instances != 3 {
		t.Errorf("got %d instances, %v, want 3", f.Instances, err)
	}
	if err := s.Retire(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	all, err := s.Instances(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != "a" || !all[0].Live || all[0].Payers["alone"] != "1" {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestUnconfigured_are_the_running_exports_of_payers_that_no_live_instance_has(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	create := func(payer, queue string) {
		t.Helper()
		err := s.InTx(t.Context(), func(tx pgx.Tx) error {
			_, err := s.CreateExportTx(t.Context(), tx, store.NewExport{
				Payer: payer, Kind: store.KindFull, Trigger: store.TriggerManual, Queue: queue,
				Settings: store.Settings{Digest: "d", JSON: []byte(`{"name": "x"}`)},
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	create("configured", "")
	create("removed", "")
	create("by_hand", "run_1")
	if err := s.Announce(t.Context(), store.Instance{ID: "a", Payers: map[string]string{"configured": "1"}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Unconfigured(t.Context())
	if err != nil || len(got) != 1 || got[0].Payer != "removed" || got[0].Settings != "d" {
		t.Errorf("got %+v, %v", got, err)
	}
	kept, err := s.Settings(t.Context(), "removed", "d")
	if err != nil || string(kept.JSON) != `{"name": "x"}` {
		t.Errorf("got %s, %v", kept.JSON, err)
	}
	if _, err := s.Settings(t.Context(), "removed", "e"); !errors.Is(err, store.ErrNoSettings) {
		t.Errorf("got %v, want ErrNoSettings", err)
	}
	if load, err := s.Load(t.Context()); err != nil || load != (store.Load{Due: 3}) {
		t.Errorf("got %+v, %v", load, err)
	}
}
