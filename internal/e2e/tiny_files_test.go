package e2e

import (
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
