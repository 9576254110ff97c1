package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestChanges_of_an_older_generation_come_too_late(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	file := output("Patient", patient("a", "", ""))
	old := begin(t, s, store.NewExport{}, file)
	change := func(f func(tx pgx.Tx) error) error { return s.InTx(ctx, f) }
	restart := func() error {
		return change(func(tx pgx.Tx) error { return s.RestartTx(ctx, tx, old.ID, old.Generation) })
	}
	if err := restart(); err != nil {
		t.Fatal(err)
	}
	now := get(t, s, old.ID)
	err := change(func(tx pgx.Tx) error {
		return s.KickedOffTx(ctx, tx, now.ID, now.Generation, "https://payer.example/second", time.Now(), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"restart": restart(),
		"poll":    s.NotePoll(ctx, old.ID, old.Generation, "50%", 50, time.Hour),
		"due":     s.NoteJobDue(ctx, old.ID, old.Generation, time.Hour),
		"fail": change(func(tx pgx.Tx) error {
			return s.FailTx(ctx, tx, old.ID, old.Generation, store.Failure{Code: "job_gone"})
		}),
		"manifest": change(func(tx pgx.Tx) error {
			_, err := s.ManifestTx(ctx, tx, old.ID, old.Generation, store.Manifest{}, 1)
			return err
		}),
	} {
		if !store.IsStale(err) {
			t.Errorf("%s by a job of the lost generation: got %v, want that it comes too late", name, err)
		}
	}
	if x := get(t, s, old.ID); x.State != store.StatePolling || x.Restarts != 1 || x.StatusURL != "https://payer.example/second" {
		t.Errorf("the export is %s after %d restarts at %s", x.State, x.Restarts, x.StatusURL)
	}
}

func TestText_of_a_payer_that_Postgres_cannot_hold_stops_nothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	const odd = "a\x00b\xff"
	var id int64
	err := s.InTx(ctx, func(tx pgx.Tx) (err error) {
		if id, err = s.CreateExportTx(ctx, tx, store.NewExport{Payer: "p", Kind: store.KindFull, Trigger: store.TriggerManual}); err != nil {
			return err
		}
		return s.KickedOffTx(ctx, tx, id, 0, "https://payer.example/"+odd, time.Now(), nil)
	})
	if err != nil {
		t.Fatalf("kick-off: %v", err)
	}
	if err := s.NotePoll(ctx, id, 0, odd, -1, time.Second); err != nil {
		t.Errorf("poll: %v", err)
	}
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		_, err := s.ManifestTx(ctx, tx, id, 0, store.Manifest{TransactionTime: odd, Files: []store.ManifestFile{
			{Kind: store.FileOutput, ResourceType: odd, URL: odd, ExpectedCount: -1},
		}}, 1)
		return err
	})
	if err != nil {
		t.Errorf("manifest: %v", err)
	}
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		return s.FailTx(ctx, tx, id, 0, store.Failure{Code: "x", Text: odd, Hint: odd})
	})
	if err != nil {
		t.Errorf("failure: %v", err)
	}
}
