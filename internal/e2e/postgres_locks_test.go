//go:build faults

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// session is a connection of the test's own, which holds what the daemon wants.
func (s *site) session(statements ...string) *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.direct())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) })
	for _, sql := range statements {
		if _, err := conn.Exec(s.t.Context(), sql); err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
	return conn
}

// waits reports whether the daemon waits for a lock, in a statement like this one.
func (s *site) waits(statement string) bool {
	return s.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ingestd'
		AND wait_event_type = 'Lock' AND query ILIKE $1`, statement) > 0
}

func TestServe_repeats_what_a_deadlock_or_a_timeout_of_Postgres_ended(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, state string
		provoke     func(t *testing.T, s *site)
	}{
		{"22 a deadlock", "40P01", func(t *testing.T, s *site) {
			t.Helper()
			// The loader has copied into the staging table when it waits for the checkpoint's row; then each waits for the other, and
			// the loader, which has waited longer, is the one to find that out.
			rival := s.session(`SET deadlock_timeout = '10min'`, `BEGIN`, `SELECT FROM ingest.export_file FOR UPDATE`)
			s.wait("the loader to wait", func() bool { return s.waits("%UPDATE ingest.export_file%SET line_number%") })
			var stage string
			err := s.db.QueryRow(t.Context(), `SELECT l.relation::regclass::text FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
				JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_stat_activity AS a ON a.pid = l.pid
				WHERE n.nspname = 'ingest_stage' AND c.relkind = 'r' AND l.mode = 'RowExclusiveLock' AND a.wait_event_type = 'Lock'
				AND a.datname = current_database() AND a.query LIKE '%UPDATE ingest.export_file%' LIMIT 1`).Scan(&stage)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rival.Exec(t.Context(), `LOCK TABLE `+stage+` IN ACCESS EXCLUSIVE MODE`); err != nil {
				t.Fatal(err)
			}
			if _, err := rival.Exec(t.Context(), `ROLLBACK`); err != nil {
				t.Fatal(err)
			}
		}},
		{"22 a statement timeout", "57014", func(t *testing.T, s *site) {
			t.Helper()
			s.timeout("statement_timeout", "700ms")
			rival := s.session(`BEGIN`, `SELECT FROM ingest.export_file FOR UPDATE`)
			s.wait("the timeout", func() bool { return s.said("57014") })
			s.timeout("statement_timeout", "0")
			if _, err := rival.Exec(t.Context(), `ROLLBACK`); err != nil {
				t.Fatal(err)
			}
		}},
		{"22 a lock timeout", "55P03", func(t *testing.T, s *site) {
			t.Helper()
			s.timeout("lock_timeout", "700ms")
			rival := s.session(`BEGIN`, `SELECT FROM ingest.export_file FOR UPDATE`)
			s.wait("the timeout", func() bool { return s.said("55P03") })
			s.timeout("lock_timeout", "0")
			if _, err := rival.Exec(t.Context(), `ROLLBACK`); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.slowly()
			s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
			daemon := s.start("serve")
			s.ask(t, p)
			s.atWork()
			test.provoke(t, s)
			s.wait("a word of it", func() bool { return s.said(test.state) })
			s.settled(t, p, daemon, false)
		})
	}
}

// said reports whether a daemon's log holds a text.
func (s *site) said(text string) bool {
	for _, p := range s.running {
		if strings.Contains(p.log.String(), text) {
			return true
		}
	}
	return false
}

// timeout sets a timeout for all that connects from now on, and ends the connections of the daemon so that it does.
func (s *site) timeout(name, value string) {
	s.t.Helper()
	s.session(`SET statement_timeout = 0`, `DO $$ DECLARE n text; BEGIN
			SELECT current_database() INTO n;
			EXECUTE format('ALTER DATABASE %I SET `+name+` = ''`+value+`''', n);
		END $$`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ingestd'`)
}

func TestServe_repeats_a_publish_that_others_keep_waiting_and_readers_read_on(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.slowly()
	s.configure("", []payer{p}, slowExtra)
	daemon := s.start("serve")
	s.ask(t, p)
	s.wait("the first publish", func() bool { return s.published(p.name) == 1 })
	s.wait("the clean-up", func() bool { return p.sim.Stats().OpenJobs == 0 })
	before := s.rows(t, p)
	release := s.block("fhir.patient")
	s.ask(t, p)
	s.reaches("publishing")
	s.wait("a publish that gave up", func() bool { return s.said("55P03") })
	began := time.Now()
	if now := s.rows(t, p); now != before {
		t.Errorf("readers see part of the next export")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a reader waited %s", took)
	}
	release()
	s.settled(t, p, daemon, false)
}
