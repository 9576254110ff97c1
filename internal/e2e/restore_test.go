package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"ingestd/internal/payersim"
	"ingestd/internal/testpg"
)

// dumpTo writes a dump of the database, as it stands at this moment.
func (s *site) dumpTo(file string) {
	s.t.Helper()
	s.program("pg_dump", "--format=custom", "--file", file, s.url)
}

// restore puts a dump into a database of its own, which takes the place of the one that was.
func (s *site) restore(file string) {
	s.t.Helper()
	s.url = testpg.New(s.t, nil)
	s.program("pg_restore", "--exit-on-error", "--dbname", s.url, file)
	db, err := pgxpool.New(s.t.Context(), s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(db.Close)
	s.db = db
}

func (s *site) program(name string, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestRestore_of_an_older_database_loses_nothing_because_its_watermark_goes_back_too(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("acme", payersim.Options{Patients: 60, Seed: 11, Changes: 0.15})
	s.configure("", []payer{p}, "")
	s.runJSON(p.name)
	dump := filepath.Join(s.dir, "dump")
	s.dumpTo(dump)
	var gone int64
	for range 2 { // the payer's data change, and resources are deleted
		got := s.runJSON(p.name)
		if got.Updated == 0 || got.Deleted == 0 {
			t.Fatalf("got %+v, want updates and deletions", got)
		}
		gone += got.Deleted
	}
	s.restore(dump)
	if n := s.published(p.name); n != 1 {
		t.Fatalf("the restored database has %d exports, want the one before the dump", n)
	}
	s.configure("", []payer{p}, "")
	if got := s.runJSON(p.name); got.Kind != "incremental" || got.Deleted < gone {
		t.Errorf("got %+v, want an incremental export with at least the %d deletions since the dump", got, gone)
	}
	s.compare(p.name, held(t, p.sim))
}

func TestRestore_of_a_database_in_the_middle_of_an_export_that_is_over_begins_it_again(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("slow", payersim.Options{Patients: 25, Seed: 4, LinesPerFile: 100_000, Faults: payersim.Faults{BytesPerSecond: 150_000}})
	s.configure("workers: {chunk: 64KiB}", []payer{p}, "limits: {poll_min: 1s}")
	run := s.start("run", p.name)
	s.wait("a checkpoint", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export_file WHERE state = 'queued' AND chunks > 1`) > 0
	})
	dump := filepath.Join(s.dir, "dump")
	s.dumpTo(dump)
	s.forget(run)
	if err := p.sim.SetFaults(payersim.Faults{}); err != nil {
		t.Fatal(err)
	}
	s.wait("the publish, and the end of the job at the payer", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE state = 'published' AND cleaned_up_at IS NOT NULL`) == 1
	})
	<-run.done

	s.restore(dump)
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE state = 'loading'`); n != 1 {
		t.Fatalf("the restored database has %d exports that are being loaded, want one", n)
	}
	// A backup is older than the two minutes in which a job that the payer does not know may only not be known everywhere yet.
	if _, err := s.db.Exec(t.Context(), `UPDATE ingest.export SET kicked_off_at = kicked_off_at - interval '1 day'`); err != nil {
		t.Fatal(err)
	}
	s.configure("workers: {chunk: 64KiB}", []payer{p}, "limits: {poll_min: 1s}\nschedule: \"0 0 29 2 *\"")
	daemon := s.start("serve")
	s.wait("the publish of what was under way", func() bool { return s.published(p.name) == 1 })
	s.stop(daemon)
	if n := s.number(`SELECT restarts FROM ingest.export WHERE id = 1`); n != 1 {
		t.Errorf("the export was started again %d times, want once: its job was over", n)
	}
	s.compare(p.name, held(t, p.sim))
}
