package e2e

import (
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

func TestFILE10_thousands_of_tiny_files_share_few_jobs_and_survive_refusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tiny := s.payer("tiny", payersim.Options{Patients: 60, Seed: 7, LinesPerFile: 1, Faults: payersim.Faults{
		RetryAfter: -1, FileFailFirst: 5, CutFileAtByte: 3000, // every longer file breaks once
	}})
	other := s.payer("other", payersim.Options{Patients: 5, Seed: 8})
	s.configure("", []payer{tiny, other}, "schedule: \"@every 1h\"\nlimits: {poll_min: 100ms, downloads: 2}")
	if got := s.runJSON("tiny"); got.Lines < 500 {
		t.Fatalf("got %d lines: not worth the name", got.Lines)
	}
	s.compare("tiny", held(t, tiny.sim))
	files := s.number(`SELECT count(*) FROM ingest.export_file`)
	jobs := s.number(`SELECT count(*) FROM river.river_job WHERE kind = 'load_file'`)
	if files < 500 || jobs > files/5 {
		t.Errorf("got %d jobs for %d files, want far fewer", jobs, files)
	}
	if got := s.number(`SELECT count(*) FROM ingest.export_file WHERE state <> 'loaded'`); got != 0 {
		t.Errorf("%d files are not loaded", got)
	}
}

func TestServe_goes_on_with_tiny_files_after_kill_9_and_SIGTERM(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("tiny", payersim.Options{
		Patients: 100, Seed: 9, LinesPerFile: 2, Faults: payersim.Faults{BytesPerSecond: 400_000},
	})
	s.configure("shutdown: {grace: 20s}", []payer{p}, "schedule: \"@every 2s\"\nexport: {since: never}\nlimits: {downloads: 2}")
	loaded := func() int64 {
		return s.number(`SELECT count(*) FROM ingest.export_file WHERE export_id = 1 AND state = 'loaded'`)
	}
	victim := s.start("serve")
	s.wait("some files", func() bool { return loaded() > 50 })
	s.kill(victim)
	lines := s.staged()
	second := s.start("serve")
	// Not what is staged: a commit of the killed process may come after its death.
	s.wait("the files to be taken over", func() bool { return strings.Contains(second.log.String(), "file loaded") })
	s.stop(second)
	if n := s.number(`SELECT count(*) FROM river.river_job WHERE state = 'running' AND kind = 'load_file'`); n > 2 {
		t.Errorf("%d loads are left running, want those of the killed process at most", n)
	}
	third := s.start("serve")
	s.wait("the publish", func() bool { return s.published("tiny") >= 1 })
	s.stop(third)
	s.loadedOnce(p, lines)
}
