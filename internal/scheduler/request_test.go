package scheduler

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// watermarkAt stores a payer's watermarks as its publishes would have left them.
func watermarkAt(t *testing.T, s *store.Store, p config.Payer, since time.Time, types ...string) {
	t.Helper()
	for _, resourceType := range types {
		_, err := s.Pool().Exec(t.Context(), `INSERT INTO ingest.watermark (payer, series, resource_type, since, export_id)
			VALUES ($1, $2, $3, $4, 1)`, p.Name, series(p), resourceType, since)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewExport_is_incremental_only_where_everything_asked_for_has_been_published(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)
	base := func() config.Payer {
		return config.Payer{
			Name: "p", FHIRURL: "https://payer.example/r4",
			Export: config.Export{Level: "group", GroupID: "42", Types: []string{"Patient", "Coverage"}, Since: "auto", SinceOverlap: time.Minute},
			Load:   config.Loading{RemoveGhosts: true},
		}
	}
	tests := []struct {
		name   string
		change func(*config.Payer)
		run    RunOptions
		known  []string // types with a watermark
		kind   store.Kind
		since  string
		ghosts bool
	}{
		{"nothing published yet", nil, RunOptions{}, nil, store.KindFull, "", true},
		{"everything published", nil, RunOptions{}, []string{"Patient", "Coverage"}, store.KindIncremental, "2026-03-01T11:59:00.123Z", false},
		{"INC10 a type is new", nil, RunOptions{}, []string{"Patient"}, store.KindFull, "", true},
		{"a full run by hand", nil, RunOptions{Full: true}, []string{"Patient", "Coverage"}, store.KindFull, "", true},
		{
			"an instant by hand", nil,
			RunOptions{Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
			[]string{"Patient", "Coverage"},
			store.KindIncremental, "2026-01-01T00:00:00Z", false,
		},
		{
			"INC11 since: never", func(p *config.Payer) { p.Export.Since = "never" },
			RunOptions{},
			[]string{"Patient", "Coverage"},
			store.KindFull, "", true,
		},
		{
			"an instant for the first run", func(p *config.Payer) { p.Export.Since = "2025-06-01T00:00:00Z" },
			RunOptions{},
			nil,
			store.KindIncremental, "2025-06-01T00:00:00Z", false,
		},
		{
			"INC4 a full export that needs an instant", func(p *config.Payer) { p.Export.FullSince = "2020-02-13T00:00:00Z" },
			RunOptions{},
			nil,
			store.KindFull, "2020-02-13T00:00:00Z", true,
		},
		{
			"INC4 a filter makes no full export", func(p *config.Payer) { p.Export.TypeFilters = []string{"Patient?active=true"} },
			RunOptions{},
			nil,
			store.KindFull, "", false,
		},
		{"ghosts are to stay", func(p *config.Payer) { p.Load.RemoveGhosts = false }, RunOptions{}, nil, store.KindFull, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := base()
			if test.change != nil {
				test.change(&p)
			}
			watermarkAt(t, s, p, since, test.known...)
			e, err := New(Options{Store: s})
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.newExport(t.Context(), p, test.run)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != test.kind || got.Since != test.since || got.RemovesGhosts != test.ghosts {
				t.Errorf("got %s since %q, ghosts %v; want %s since %q, ghosts %v", got.Kind, got.Since, got.RemovesGhosts,
					test.kind, test.since, test.ghosts)
			}
		})
	}
}

func TestINC10_another_group_level_or_filter_is_another_series(t *testing.T) {
	t.Parallel()
	base := config.Payer{Name: "p", FHIRURL: "https://a.example", Export: config.Export{Level: "group", GroupID: "1", Types: []string{"Patient"}}}
	for name, change := range map[string]func(*config.Payer){
		"group":  func(p *config.Payer) { p.Export.GroupID = "2" },
		"level":  func(p *config.Payer) { p.Export.Level, p.Export.GroupID = "system", "" },
		"filter": func(p *config.Payer) { p.Export.TypeFilters = []string{"Patient?active=true"} },
		"server": func(p *config.Payer) { p.FHIRURL = "https://b.example" },
	} {
		other := base
		change(&other)
		if series(other) == series(base) {
			t.Errorf("another %s is the same series", name)
		}
	}
	more := base
	more.Export.Types = []string{"Patient", "Coverage"}
	if series(more) != series(base) {
		t.Error("a further type begins another series: what is published of the others would be asked for again")
	}
}

func TestStart_refuses_a_second_export_of_a_payer_and_an_unknown_one(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e, err := New(Options{Store: s, Payers: []Payer{{Config: config.Payer{Name: "p"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), "p", RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), "p", RunOptions{}); !errors.Is(err, store.ErrExportRunning) {
		t.Errorf("got %v, want ErrExportRunning", err)
	}
	if _, err := e.Start(t.Context(), "q", RunOptions{}); !isA[*UnknownPayerError](err) {
		t.Errorf("got %v, want it unknown", err)
	}
}

func TestCancel_Release_and_Reject_act_on_what_they_are_for(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	e, err := New(Options{Store: s, Payers: []Payer{{Config: config.Payer{Name: "p"}}}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := e.Start(ctx, "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Release(ctx, id, store.Actor{Name: "op"}); !isA[*StateError](err) {
		t.Errorf("release of one that is not held: got %v", err)
	}
	if err := e.Reject(ctx, id, store.Actor{Name: "op"}); !isA[*StateError](err) {
		t.Errorf("reject of one that is not held: got %v", err)
	}
	if err := e.Cancel(ctx, id, store.Actor{Name: "op"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Cancel(ctx, id, store.Actor{Name: "op"}); !isA[*StateError](err) {
		t.Errorf("cancel of one that is over: got %v", err)
	}
	if err := e.Cancel(ctx, id+1, store.Actor{Name: "op"}); !errors.Is(err, store.ErrNoExport) {
		t.Errorf("cancel of none: got %v", err)
	}
	if id, err = e.Start(ctx, "p", RunOptions{}); err != nil {
		t.Fatalf("a canceled export blocks the next: %v", err)
	}
	if _, err := s.Pool().Exec(ctx, `UPDATE ingest.export SET state = 'held' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if err := e.Release(ctx, id, store.Actor{Name: "op"}); err != nil {
		t.Fatal(err)
	}
	if x, err := s.Export(ctx, id); err != nil || x.State != store.StatePublishing || !x.Released {
		t.Errorf("got %s released %v, %v", x.State, x.Released, err)
	}
}

// jobs counts the waiting jobs of a kind.
func jobs(t *testing.T, s *store.Store, kind string) int {
	t.Helper()
	var n int
	err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM river.river_job WHERE kind = $1 AND state = 'available'`, kind).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReap_takes_over_what_nobody_works_on_and_nothing_else(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	e, err := New(Options{Store: s, Payers: []Payer{{Config: config.Payer{Name: "p"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		if id, err = s.CreateExportTx(ctx, tx, store.NewExport{Payer: "p", Kind: store.KindFull, Trigger: store.TriggerManual}); err != nil {
			return err
		}
		if err := s.KickedOffTx(ctx, tx, id, 0, "https://payer.example/status", time.Now(), nil); err != nil {
			return err
		}
		_, err := s.ManifestTx(ctx, tx, id, 0, store.Manifest{Files: []store.ManifestFile{
			{Place: "0/output/0", Kind: store.FileOutput, URL: "https://payer.example/1"},
			{Place: "0/output/1", Kind: store.FileOutput, URL: "https://payer.example/2"},
		}}, 2)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	reap := func(want int, why string) {
		t.Helper()
		if err := e.reap(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if got := jobs(t, s, "load_file"); got != want {
			t.Errorf("%s: %d jobs wait, want %d", why, got, want)
		}
	}
	reap(0, "nothing is overdue")
	overdue := func() {
		t.Helper()
		if _, err := s.Pool().Exec(ctx, `UPDATE ingest.export_file SET job_due_at = now() - interval '1 minute'`); err != nil {
			t.Fatal(err)
		}
	}
	overdue()
	lease, err := s.LockFile(ctx, id, 0)
	if err != nil {
		t.Fatal(err)
	}
	reap(1, "one file is being loaded, the other by nobody")
	overdue()
	reap(1, "a job of it waits already")
	lease.Release(ctx)
	overdue()
	reap(2, "the first one's instance is gone")
	if err := e.Cancel(ctx, id, store.Actor{Name: "op"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pool().Exec(ctx, `DELETE FROM river.river_job`); err != nil {
		t.Fatal(err)
	}
	overdue()
	reap(0, "the export is over")
}

func TestReap_of_a_poll_voids_the_job_that_it_replaces(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	e, err := New(Options{Store: s, Payers: []Payer{{Config: config.Payer{Name: "p"}}}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := e.Start(ctx, "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pool().Exec(ctx, `DELETE FROM river.river_job`); err != nil { // as if its instance had died with it
		t.Fatal(err)
	}
	if _, err := s.Pool().Exec(ctx, `UPDATE ingest.export SET job_due_at = now() - interval '1 minute'`); err != nil {
		t.Fatal(err)
	}
	if err := e.reap(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if n := jobs(t, s, "start_export"); n != 1 {
		t.Errorf("%d jobs wait, want one", n)
	}
	if _, err := s.BeginJob(ctx, id, 0, store.StateStarting, time.Minute); !store.IsStale(err) {
		t.Errorf("the replaced job may still act: %v", err)
	}
	if _, err := s.BeginJob(ctx, id, 1, store.StateStarting, time.Minute); err != nil {
		t.Errorf("the new job may not act: %v", err)
	}
}
