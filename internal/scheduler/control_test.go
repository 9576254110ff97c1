package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// alice is an operator at a command line.
var alice = store.Actor{Name: "alice", Source: store.SourceCLI, Host: "desk"}

// controlling is an engine of two payers that works nothing.
func controlling(t *testing.T, s *store.Store) *Engine {
	t.Helper()
	p := config.Payer{Name: "p", Load: config.Loading{RemoveGhosts: true}, Export: config.Export{Types: []string{"Patient"}}}
	e, err := New(Options{Store: s, Payers: []Payer{{Config: p}, {Config: config.Payer{Name: "q"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRetry_asks_again_for_the_same(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	e := controlling(t, s)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	id, err := e.Start(ctx, "p", RunOptions{Since: since, By: alice})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Retry(ctx, id, alice); !isA[*StateError](err) {
		t.Errorf("retry of one that runs: got %v", err)
	}
	for _, state := range []string{"failed", "canceled"} {
		execute(t, s, `UPDATE ingest.export SET state = $1 WHERE id = $2`, state, id)
		retried, err := e.Retry(ctx, id, alice)
		if err != nil {
			t.Fatalf("retry of one that is %s: %v", state, err)
		}
		x, err := s.Export(ctx, retried)
		if err != nil {
			t.Fatal(err)
		}
		if x.Kind != store.KindIncremental || x.Since != "2026-01-02T03:04:05Z" || !slices.Equal(x.Types, []string{"Patient"}) ||
			x.State != store.StateStarting || x.Trigger != store.TriggerManual {
			t.Errorf("the new export asks for something else: %+v", x)
		}
		if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE kind = 'start_export' AND (args->>'export_id')::bigint = $1`, retried); n != 1 {
			t.Errorf("%d jobs start it, want 1", n)
		}
		if _, err := e.Retry(ctx, id, alice); !errors.Is(err, store.ErrExportRunning) {
			t.Errorf("retry while another runs: got %v", err)
		}
		id = retried
	}
	execute(t, s, `UPDATE ingest.export SET state = 'published'`)
	if _, err := e.Retry(ctx, id, alice); !isA[*StateError](err) {
		t.Errorf("retry of one that is published: got %v", err)
	}
	if _, err := e.Retry(ctx, 4711, alice); !errors.Is(err, store.ErrNoExport) {
		t.Errorf("retry of none: got %v", err)
	}
	execute(t, s, `UPDATE ingest.export SET state = 'failed', series = 'another' WHERE id = $1`, id)
	if _, err := e.Retry(ctx, id, alice); !isA[*SeriesChangedError](err) {
		t.Errorf("retry of what the configuration does not ask for by now: got %v", err)
	}
	execute(t, s, `UPDATE ingest.export SET series = (SELECT series FROM ingest.export WHERE id = $1 - 1) WHERE id = $1`, id)
	for _, types := range []string{"{}", "{Coverage,Patient}", "{Coverage}"} { // Patient is configured by now, and what the token covers
		execute(t, s, `UPDATE ingest.export SET types = $1 WHERE id = $2`, types, id)
		if _, err := e.Retry(ctx, id, alice); !isA[*SeriesChangedError](err) {
			t.Errorf("retry of an export of %s: got %v", types, err)
		}
	}
	execute(t, s, `UPDATE ingest.export SET payer = 'gone' WHERE id = $1`, id)
	if _, err := e.Retry(ctx, id, alice); !isA[*UnknownPayerError](err) {
		t.Errorf("retry for a payer that has left: got %v", err)
	}
}

func TestControl_leaves_an_audit_event_for_each_change_and_none_for_what_changed_nothing(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), t.Context()
	e := controlling(t, s)
	id, err := e.Start(ctx, "p", RunOptions{Full: true, By: alice})
	if err != nil {
		t.Fatal(err)
	}
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return e.Cancel(ctx, id, alice) },
		func(ctx context.Context) error { return e.Cancel(ctx, id, alice) }, // too late
		func(ctx context.Context) error { return e.Reject(ctx, id, alice) }, // not held
		func(ctx context.Context) error { _, err := e.Retry(ctx, id, alice); return err },
		func(ctx context.Context) error { _, err := e.Retry(ctx, id, alice); return err }, // one runs
		func(ctx context.Context) error { _, err := e.Pause(ctx, []string{"q", "p"}, alice); return err },
		func(ctx context.Context) error { _, err := e.Pause(ctx, []string{"p"}, alice); return err }, // it rests
		func(ctx context.Context) error { _, err := e.Resume(ctx, []string{"p", "q"}, alice); return err },
		func(ctx context.Context) error { _, err := e.Resume(ctx, []string{"p"}, alice); return err },
		func(ctx context.Context) error {
			execute(t, s, `UPDATE ingest.export SET state = 'held' WHERE id = $1`, id+1)
			return e.Release(ctx, id+1, alice)
		},
		func(ctx context.Context) error {
			execute(t, s, `UPDATE ingest.export SET state = 'held' WHERE id = $1`, id+1)
			return e.Reject(ctx, id+1, alice)
		},
		func(ctx context.Context) error { _, err := e.Start(ctx, "nobody", RunOptions{By: alice}); return err },
	}
	for _, step := range steps {
		_ = step(ctx) // some are refused, and must leave nothing
	}
	events, err := s.AuditEvents(ctx, store.AuditFilter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(events)
	var got []string
	for _, a := range events {
		if a.Action == store.ActionMigrate {
			continue
		}
		if a.Actor != "alice" || a.Source != store.SourceCLI || a.Host != "desk" || a.DatabaseRole == "" || time.Since(a.At) > patience {
			t.Errorf("the event does not say by whom and from where: %+v", a)
		}
		got = append(got, fmt.Sprintf("%s %s %v", a.Action, a.Object, a.Details["was"]))
	}
	want := []string{
		"run export 1 <nil>", "cancel export 1 starting", "retry export 1 <nil>", "pause payer p <nil>", "pause payer q <nil>",
		"resume payer p <nil>", "resume payer q <nil>", "release export 2 held", "reject export 2 held",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
