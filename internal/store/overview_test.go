package store_test

import (
	"testing"

	"ingestd/internal/store"
)

func TestOverview_reads_all_payers_at_once(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := s.Pool().Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO ingest.export (payer, state, kind, trigger, series, finished_at)
		SELECT 'p', CASE n WHEN 4 THEN 'failed' ELSE 'published' END, 'full', 'manual', 's', now() FROM generate_series(1, 5) AS n`)
	exec(`INSERT INTO ingest.export (payer, state, kind, trigger, series) VALUES ('q', 'loading', 'full', 'manual', 's')`)
	exec(`INSERT INTO ingest.export_file (export_id, ordinal, place, kind, resource_type, url, requires_token, state, lines, quarantined, outcomes, headers)
		SELECT id, n, n, CASE n WHEN 3 THEN 'error' ELSE 'output' END, 'Patient', 'https://x/?sig=secret', false,
			CASE n WHEN 1 THEN 'loaded' WHEN 2 THEN 'failed' ELSE 'pending' END, n * 10, CASE n WHEN 4 THEN 1 ELSE 0 END, 1, 2
		FROM ingest.export, generate_series(1, 4) AS n WHERE payer = 'q'`)
	exec(`INSERT INTO ingest.incident (payer, event, code, export_id, exports) SELECT 'p', 'failed', 'x', id, 1 FROM ingest.export WHERE state = 'failed'`)
	exec(`INSERT INTO ingest.incident (payer, event, closed_at) VALUES ('p', 'stale', now())`)
	exec(`INSERT INTO ingest.quarantine (export_id, payer, file, line, byte_offset, reason, raw, raw_bytes, result)
		SELECT id, 'q', 4, n, 0, CASE n WHEN 1 THEN 'no_id' ELSE 'not_json' END, '', 0, CASE n WHEN 2 THEN 'loaded' ELSE '' END
		FROM ingest.export, generate_series(1, 3) AS n WHERE payer = 'q'`)

	histories, err := s.Histories(t.Context(), []string{"p", "q", "nobody"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if p := histories["p"]; len(p) != 3 || p[0].ID >= p[2].ID || p[1].State != store.StateFailed || p[2].FinishedAt.IsZero() {
		t.Errorf("the history of p is %+v", p)
	}
	if q := histories["q"]; len(q) != 1 || !q[0].FinishedAt.IsZero() || len(histories["nobody"]) != 0 {
		t.Errorf("the history of q is %+v", q)
	}
	running, err := s.RunningProgress(t.Context())
	if err != nil || len(running) != 1 {
		t.Fatalf("running are %+v, %v", running, err)
	}
	for id, got := range running {
		want, err := s.Progress(t.Context(), id)
		if err != nil || got != want || got.Files != 4 || got.FilesLoaded != 1 || got.Lines != 100 {
			t.Errorf("got %+v, want %+v, %v", got, want, err)
		}
		files, err := s.FileSummaries(t.Context(), id, 3)
		if err != nil || len(files) != 3 || files[0].Ordinal != 2 || files[1].Ordinal != 4 || files[2].Ordinal != 3 {
			t.Errorf("files are %+v, %v: want the failed one first, then the one with bad lines, then what is not loaded", files, err)
		}
		if n, err := s.NotResources(t.Context(), id); err != nil || n != 9 {
			t.Errorf("%d lines are no resources, %v; want 9 of the output files", n, err)
		}
		reasons, err := s.QuarantineReasons(t.Context(), id)
		if err != nil || len(reasons) != 2 || reasons[0] != (store.ReasonCount{Reason: "not_json", Lines: 2, Loaded: 1}) {
			t.Errorf("reasons are %+v, %v", reasons, err)
		}
	}
	incidents, err := s.OpenIncidents(t.Context())
	if err != nil || len(incidents) != 1 || len(incidents["p"]) != 1 || incidents["p"][0].Code != "x" {
		t.Errorf("incidents are %+v, %v", incidents, err)
	}
	if about, err := s.About(t.Context()); err != nil || about.Database == "" || about.Server == "" || about.Bytes == 0 {
		t.Errorf("the database is %+v, %v", about, err)
	}
}
