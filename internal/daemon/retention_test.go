package daemon

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestDaemon_prunes_what_its_configuration_keeps_no_longer(t *testing.T) {
	t.Parallel()
	url := testpg.New(t, nil)
	c := parse(t, `
database: {url: %q}
admin: {listen: ""}
retention: {exports: 200h, quarantine: 100h, history: 300h}
payers: [{name: p, fhir_url: "http://127.0.0.1:1/fhir", auth: {method: none}, enabled: false}]
`, url)
	d, err := Open(t.Context(), Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	watcher, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watcher.Close(context.WithoutCancel(t.Context())) }()
	_, err = watcher.Exec(t.Context(), `INSERT INTO ingest.export (payer, kind, trigger, series, state, created_at, finished_at, cleaned_up_at)
		SELECT 'p', 'incremental', 'schedule', 's', 'published', at, at, at FROM (
			SELECT now() - make_interval(hours => CASE n WHEN 1 THEN 201 ELSE 199 END) AS at FROM generate_series(1, $1::int) AS n ORDER BY n) AS x`,
		store.KeptExports+2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	eventually(t, "the first round", func() bool {
		var n int
		if err := watcher.QueryRow(t.Context(), `SELECT count(*) FROM ingest.export`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == store.KeptExports+1
	})
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestDaemon_takes_another_retention_without_a_restart(t *testing.T) {
	t.Parallel()
	const text = `
database: {url: "postgres://db.example/fhir?sslmode=verify-full"}
retention: {exports: %s, quarantine: 100h, history: 300h}
payers: [{name: p, fhir_url: "http://127.0.0.1:1/fhir", auth: {method: none}}]
`
	before, next := parse(t, text, "200h"), parse(t, text, "9000h")
	effective, kept := before.Reloaded(next)
	if len(kept) != 0 {
		t.Errorf("a restart is needed for %v", kept)
	}
	tuning, err := (&Daemon{options: Options{Secrets: new(Secrets)}}).tuning(effective)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tuning.Retention, store.Retention(next.Retention); got != want || got == store.Retention(before.Retention) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
