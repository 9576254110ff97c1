//go:build faults

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
)

// slowExtra is what a payer has whose export is asked for by the test: one at a time, at a pace for tests.
const slowExtra = faultExtra + "\nlimits: " + limits + "}"

// slowly is a payer of which a test can meet the middle of a load.
func (s *site) slowly() payer {
	return s.payer("acme", payersim.Options{
		Patients: 50, Seed: 31, LinesPerFile: 100_000, Changes: 0.2,
		Faults: payersim.Faults{BytesPerSecond: 150_000, ExportDuration: 3 * time.Second},
	})
}

// reaches waits until the newest export is in a state.
func (s *site) reaches(state string) {
	s.t.Helper()
	s.wait("an export that is "+state, func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE state = $1`, state) > 0
	})
}

// atWork waits until some chunks of an export are staged, and others are not.
func (s *site) atWork() {
	s.t.Helper()
	s.wait("some chunks", func() bool {
		return s.number(`SELECT coalesce(max(chunks), 0) FROM ingest.export_file WHERE state = 'queued'`) >= 3
	})
}

// block keeps publishes from a table of readers until it is called again. The server's end ends it as well.
func (s *site) block(table string) (release func()) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.direct())
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := conn.Exec(s.t.Context(), "BEGIN; LOCK TABLE "+table+" IN SHARE MODE"); err != nil {
		s.t.Fatal(err)
	}
	return func() { _ = conn.Close(s.t.Context()) }
}

// direct is how the test itself connects, whatever stands between the daemon and the database.
func (s *site) direct() string { return s.db.Config().ConnString() }

func TestServe_resumes_after_a_restart_of_Postgres(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "")
	for _, at := range []struct {
		name    string
		publish bool // the export is the second, and its publish is held up
		reach   func(s *site)
	}{
		{"polling", false, func(s *site) { s.reaches("polling") }},
		{"loading", false, func(s *site) { s.atWork() }},
		{"publishing", true, func(s *site) { s.reaches("publishing") }},
	} {
		// One after the other: they share the server.
		t.Run("16 while "+at.name, func(t *testing.T) {
			c.t = t
			c.exec("postgres", "DROP DATABASE IF EXISTS site")
			s := c.site("")
			p := s.slowly()
			s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
			daemon := s.start("serve")
			if at.publish {
				s.ask(t, p)
				s.wait("the first publish", func() bool { return s.published(p.name) == 1 })
				s.block("fhir.patient")
			}
			s.ask(t, p)
			at.reach(s)
			before := s.number(`SELECT count(*) FROM ingest.export WHERE state = 'published'`)
			c.restart()
			s.reconnect()
			if now := s.number(`SELECT count(*) FROM ingest.export WHERE state = 'published'`); now != before {
				t.Errorf("%d exports are published, and %d were: the restart met nothing", now, before)
			}
			s.settled(t, p, daemon, false)
			s.db.Close() // the next one drops the database
		})
	}
}

func TestServe_repeats_a_chunk_whose_backend_was_killed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.slowly()
	s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
	daemon := s.start("serve")
	s.ask(t, p)
	kills, copies := 0, int64(0)
	s.wait("backends in a COPY", func() bool {
		n := s.number(`SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM (
			SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND query ILIKE 'copy %'
				AND pid <> pg_backend_pid()) AS x`)
		if n > 0 {
			kills++
			copies += n
		}
		return kills >= 3 || s.published(p.name) > 0
	})
	if copies == 0 {
		t.Error("no COPY was met")
	}
	s.settled(t, p, daemon, false)
	t.Logf("%d backends were killed in a COPY", copies)
}

// A standby that is promoted may lack the last transactions of its primary: here, all since the connection between them was cut.
func TestServe_goes_on_at_a_standby_that_lacks_the_last_transactions(t *testing.T) {
	t.Parallel()
	primary := newCluster(t, "", "wal_level = replica", "max_wal_senders = 5", "wal_keep_size = 64MB")
	primary.append("pg_hba.conf", "host replication all 127.0.0.1/32 trust")
	primary.pg("pg_ctl", "reload", "-D", primary.data)
	link := newProxy(t, primary.address())
	s := primary.site("")
	standby := makeCluster(t, "")
	host, port, _ := strings.Cut(link.address(), ":")
	standby.pg("pg_basebackup", "-D", standby.data, "-h", host, "-p", port, "-U", clusterUser, "--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf")
	standby.append("postgresql.conf", "port = "+decimal(int64(standby.port)))
	standby.start()

	front := newProxy(t, primary.address())
	p := s.slowly()
	s.url = databaseAt(front.address(), "site")
	s.configure("workers: {chunk: 128KiB}", []payer{p}, slowExtra)
	daemon := s.start("serve")
	s.ask(t, p)
	s.atWork()
	link.stand(true) // from here on the standby hears nothing
	lines := s.staged()
	s.wait("chunks that the standby lacks", func() bool { return s.staged() > lines })
	had := s.chunks()
	primary.stop("immediate")
	s.moveTo(front, standby)
	left := s.chunks()
	t.Logf("the standby has %d chunks of the %d that the primary had", left, had)
	if left >= had {
		t.Error("the standby lacks nothing: it proves nothing")
	}
	s.settled(t, p, daemon, false)
}

func (s *site) chunks() int64 {
	return s.number(`SELECT coalesce(sum(chunks), 0) FROM ingest.export_file`)
}

// moveTo promotes a standby and leads the daemon to it.
func (s *site) moveTo(front *proxy, standby *cluster) {
	s.t.Helper()
	standby.pg("pg_ctl", "promote", "-D", standby.data, "-w")
	front.lead(standby.address())
	s.db.Close()
	again := newSiteAt(s.t, databaseAt(standby.address(), "site"))
	s.db = again.db
	s.reconnect()
}
