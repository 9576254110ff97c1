package e2e

import (
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

// away is for how long the database is not there.
const away = 8 * time.Second

func TestServe_that_loses_the_database_stops_loading_at_once_and_goes_on_when_it_is_back(t *testing.T) {
	t.Parallel()
	s, p := slowSite(t)
	f := newFront(t, s)
	s.configure("workers: {chunk: 256KiB}", []payer{p}, `
schedule: "@every 2s"
export: {since: never}
`)
	f.open(t)
	daemon := s.start("serve")
	s.midLoad(p)
	f.cut()
	lost := time.Now()
	lines := s.staged()
	// What the payer sends no longer grows: nothing is read for nobody.
	sent, still := p.sim.Stats().FileBytes, time.Now()
	s.wait("the downloads to end", func() bool {
		if now := p.sim.Stats().FileBytes; now != sent {
			sent, still = now, time.Now()
		}
		return time.Since(still) > 2*time.Second
	})
	t.Logf("the last byte was read %s after the database was lost", still.Sub(lost).Round(100*time.Millisecond))
	if took := still.Sub(lost); took > 10*time.Second {
		t.Errorf("files were read for %s without a database, want it to end at once", took)
	}
	if got := s.staged(); got != lines {
		t.Errorf("%d lines are staged, %d were when the database was lost", got, lines)
	}
	s.wait("some time", func() bool { return time.Since(lost) > away })
	f.open(t)
	t.Cleanup(func() {
		f.cut()
	})
	back := time.Now()
	s.wait("the load to go on", func() bool { return s.staged() > lines })
	t.Logf("the load went on %s after the database was back", time.Since(back).Round(100*time.Millisecond))
	s.wait("the publish", func() bool { return s.published(p.name) >= 1 })
	s.stop(daemon)
	s.loadedOnce(p, lines)
	s.eachTickOnce([]payer{p})
}

func TestServe_refuses_a_database_that_a_newer_binary_has_migrated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure("", nil, "")
	newest := s.number(`SELECT max(version) FROM ingest.schema_migration`)
	if _, err := s.db.Exec(t.Context(), `INSERT INTO ingest.schema_migration (version, name, needs) VALUES ($1, 'of_the_future', $1)`, newest+1); err != nil {
		t.Fatal(err)
	}
	want := (&store.SchemaTooNewError{Database: int(newest) + 1, Binary: int(newest)}).Error()
	for _, args := range [][]string{{"serve"}, {"serve", "--skip-migrations"}, {"status"}, {"migrate", "up"}} {
		if _, err := s.run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", strings.Join(args, " "), err, want)
		}
	}
	if n := s.number(`SELECT count(*) FROM ingest.schema_migration`); n != newest+1 {
		t.Errorf("%d migrations are recorded, want that nothing was touched", n)
	}
}
