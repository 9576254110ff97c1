package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/verify"
)

func TestServe_loads_what_the_generator_holds_exactly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("generated", payersim.Options{Patients: 60, Seed: 1, LinesPerFile: 100})
	s.configure("", []payer{p}, `
schedule: "@every 3s"
export: {since: never}
`)
	daemon := s.start("serve")
	s.wait("a publish", func() bool { return s.published(p.name) >= 1 })
	s.stop(daemon)
	want := held(t, p.sim)
	if want.Size() == 0 {
		t.Fatal("the payer holds nothing")
	}
	s.compare(p.name, want)
	if n := s.number(`SELECT count(*) FROM ingest.export_file WHERE export_id = 1`); n < 5 {
		t.Errorf("got %d files, want several a type", n)
	}
}

// syntheaDir is a folder of real-shaped resources that is not part of this project.
const syntheaDir = "../../../shared/data/synthea-r4"

func TestServe_loads_the_synthea_folder_exactly(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(syntheaDir); err != nil {
		t.Skipf("NOTICE: %s is not there; the Synthea data are not tested", filepath.Clean(syntheaDir))
	}
	s := newSite(t)
	p := s.payer("synthea", payersim.Options{DataDir: syntheaDir, LinesPerFile: 5000})
	s.configure("", []payer{p}, `
schedule: "@every 3s"
export: {since: never}
`)
	daemon := s.start("serve")
	s.wait("two publishes", func() bool { return s.published(p.name) >= 2 })
	s.stop(daemon)
	want := held(t, p.sim)
	if len(want) != 17 || want.Size() != 38_039 {
		t.Errorf("the folder holds %d resources of %d types, want 38,039 of 17", want.Size(), len(want))
	}
	s.compare(p.name, want)
	for _, check := range []struct {
		what, sql string
		want      int64
	}{
		{"lines", `SELECT lines FROM ingest.export WHERE id = 1`, 38_527},
		{"inserted rows", `SELECT inserted FROM ingest.export WHERE id = 1`, 38_039},
		{"superseded lines", `SELECT superseded FROM ingest.export WHERE id = 1`, 488},
		{"quarantined lines", `SELECT quarantined FROM ingest.export WHERE id = 1`, 0},
		{"rows that the second export wrote", `SELECT inserted + updated + deleted + ghosts FROM ingest.export WHERE id > 1 ORDER BY id LIMIT 1`, 0},
		{"unchanged rows of the second export", `SELECT unchanged FROM ingest.export WHERE id > 1 ORDER BY id LIMIT 1`, 38_039},
	} {
		if got := s.number(check.sql); got != check.want {
			t.Errorf("%s: got %d, want %d", check.what, got, check.want)
		}
	}
}

func TestRun_of_the_same_data_changes_no_row_and_of_other_data_exactly_those(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	still := s.payer("still", payersim.Options{Patients: 40, Seed: 2})
	moving := s.payer("moving", payersim.Options{Patients: 40, Seed: 3, Changes: 0.1})
	s.configure("", []payer{still, moving}, `export: {since_overlap: 0s}`)
	const fingerprint = `
		SELECT coalesce(sum(hashtext(r)), 0)::bigint FROM (
			SELECT id || xmin::text || ingested_at::text AS r FROM fhir.explanation_of_benefit WHERE payer = $1
			UNION ALL SELECT id || xmin::text || ingested_at::text FROM fhir.patient WHERE payer = $1) x`

	if _, err := s.run("run", "still"); err != nil {
		t.Fatal(err)
	}
	before := s.number(fingerprint, "still")
	got := s.runJSON("still", "--full")
	if got.Inserted+got.Updated+got.Deleted+got.Ghosts != 0 || got.Unchanged != got.Lines || got.Lines == 0 {
		t.Errorf("the same data again: got %+v", got)
	}
	certificate, err := s.run("exports", "certificate", decimal(got.ExportID))
	if err != nil || !strings.Contains(certificate, "0 headers: balanced") || strings.Contains(certificate, "http") {
		t.Errorf("the certificate is %s, %v", certificate, err)
	}
	if _, err := s.run("payers", "remove", "still", "--yes"); err == nil || !strings.Contains(err.Error(), "is in the configuration") {
		t.Errorf("a payer of the configuration is removed: %v", err)
	}
	if s.number(fingerprint, "still") != before {
		t.Error("rows were written though nothing had changed")
	}

	if _, err := s.run("run", "moving"); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		old := held(t, moving.sim)
		args := []string{}
		if round == 2 {
			args = append(args, "--full") // what left without a word goes as a ghost
		}
		got := s.runJSON("moving", args...)
		recent := held(t, moving.sim)
		s.compare("moving", recent)
		var want verify.Change
		for _, c := range verify.Differences(old, recent) {
			want = want.Plus(c)
		}
		change := verify.Change{Inserted: got.Inserted, Updated: got.Updated, Deleted: got.Deleted + got.Ghosts}
		if change != want || want.Inserted*want.Updated*want.Deleted == 0 {
			t.Errorf("round %d: got %+v, want %+v", round, got, want)
		}
		if full := round == 2; (got.Ghosts > 0) != full || (got.Kind == "full") != full {
			t.Errorf("round %d: got kind %s with %d ghosts", round, got.Kind, got.Ghosts)
		}
	}
}

// result is the JSON that run prints.
type result struct {
	ExportID                                                                             int64 `json:"export_id"`
	State, Kind                                                                          string
	Lines, Bytes, Inserted, Updated, Unchanged, Superseded, Deleted, Ghosts, Quarantined int64
	TransactionTime                                                                      string  `json:"transaction_time"`
	Seconds                                                                              float64 `json:"seconds"`
}

func (s *site) runJSON(payer string, args ...string) result {
	s.t.Helper()
	out, err := s.run(append([]string{"run", payer, "--output", "json"}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	if r.State != "published" || r.ExportID == 0 || r.TransactionTime == "" {
		s.t.Errorf("got %s", out)
	}
	return r
}

// slowSite is a payer so slow that a test can meet the middle of its load: one file a type, in many chunks.
func slowSite(t *testing.T) (*site, payer) {
	t.Helper()
	s := newSite(t)
	p := s.payer("slow", payersim.Options{
		Patients: 150, Seed: 4, LinesPerFile: 100_000, Faults: payersim.Faults{BytesPerSecond: 150_000},
	})
	return s, p
}

// midLoad waits until some chunks of the first export are staged and others are not.
func (s *site) midLoad(p payer) (lines int64) {
	s.t.Helper()
	s.wait("some chunks", func() bool {
		if s.published(p.name) != 0 {
			s.t.Fatal("the load was too quick to be met in its middle")
		}
		return s.number(`SELECT coalesce(max(chunks), 0) FROM ingest.export_file WHERE state = 'queued' AND export_id = 1`) >= 5
	})
	return s.staged()
}

func (s *site) staged() int64 {
	return s.number(`SELECT coalesce(sum(lines), 0) FROM ingest.export_file WHERE export_id = 1`)
}

// loadedOnce compares the tables with the payer and wants every line of the first export staged once: a chunk that is
// loaded again would show, because its lines would repeat.
func (s *site) loadedOnce(p payer, before int64) {
	s.t.Helper()
	s.compare(p.name, held(s.t, p.sim))
	total := s.number(`SELECT lines FROM ingest.export WHERE id = 1`)
	if got := s.number(`SELECT inserted FROM ingest.export WHERE id = 1 AND superseded = 0`); got != total {
		s.t.Errorf("%d of %d lines were inserted, want each once", got, total)
	}
	if total <= before {
		s.t.Errorf("all %d lines were staged before the interruption: it proves nothing", total)
	}
}

func TestServe_goes_on_after_kill_9_in_the_middle_of_a_load(t *testing.T) {
	t.Parallel()
	s, p := slowSite(t)
	s.configure("workers: {chunk: 256KiB}", []payer{p}, `
schedule: "@every 2s"
export: {since: never}
`)
	victim := s.start("serve")
	s.midLoad(p)
	s.kill(victim)
	lines, killed := s.staged(), time.Now()

	survivor := s.start("serve")
	s.wait("the files to be taken over", func() bool { return s.staged() > lines })
	t.Logf("taken over %s after the kill, at %d lines", time.Since(killed).Round(time.Second), lines)
	s.wait("the publish", func() bool { return s.published(p.name) >= 1 })
	s.stop(survivor)
	s.loadedOnce(p, lines)
}

func TestServe_stops_at_a_checkpoint_on_SIGTERM_and_another_goes_on_at_once(t *testing.T) {
	t.Parallel()
	s, p := slowSite(t)
	s.configure("workers: {chunk: 256KiB}\nshutdown: {grace: 20s}", []payer{p}, `
schedule: "@every 2s"
export: {since: never}
`)
	first := s.start("serve")
	s.midLoad(p)
	began := time.Now()
	s.stop(first)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the stop took %s, want it within the grace period", took)
	}
	lines := s.staged()
	if n := s.number(`SELECT count(*) FROM river.river_job WHERE state = 'running'`); n != 0 {
		t.Errorf("%d jobs are left running: nobody else can go on with them", n)
	}
	if p.sim.Stats().Deletes != 0 {
		t.Error("CLN3: the stop canceled the export at the payer")
	}
	second := s.start("serve")
	s.wait("the publish", func() bool { return s.published(p.name) >= 1 })
	s.stop(second)
	s.loadedOnce(p, lines)
}

func TestRun_that_was_interrupted_is_gone_on_with_by_the_next(t *testing.T) {
	t.Parallel()
	s, p := slowSite(t)
	s.configure("workers: {chunk: 256KiB}", []payer{p}, `enabled: true`)
	first := s.start("run", "slow")
	s.midLoad(p)
	s.forget(first)
	if err := first.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-first.done
	if first.err == nil {
		t.Error("an interrupted run ends as if it had published")
	}
	lines := s.staged()
	if got := s.runJSON("slow"); got.ExportID != 1 {
		t.Errorf("export %d was started, want export 1 gone on with", got.ExportID)
	}
	s.loadedOnce(p, lines)
	if s.wait("the DELETE", func() bool { return p.sim.Stats().Deletes == 1 }); p.sim.Stats().KickOffs != 1 {
		t.Errorf("%d kick-offs, want one", p.sim.Stats().KickOffs)
	}
}

func TestServe_of_two_processes_starts_each_tick_once(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	payers := []payer{
		s.payer("one", payersim.Options{Patients: 3, Seed: 5}),
		s.payer("two", payersim.Options{Patients: 3, Seed: 6}),
	}
	s.configure("", payers, `schedule: "@every 2s"`)
	first, second := s.start("serve"), s.start("serve")
	s.wait("ticks", func() bool { return s.published("one") >= 5 && s.published("two") >= 5 })
	s.stop(first)
	s.stop(second)
	for _, p := range payers {
		ticks := s.number(`SELECT count(*) FROM ingest.tick WHERE payer = $1 AND outcome = 'started'`, p.name)
		exports := s.number(`SELECT count(*) FROM ingest.export WHERE payer = $1`, p.name)
		distinct := s.number(`SELECT count(DISTINCT due_at) FROM ingest.export WHERE payer = $1`, p.name)
		kickOffs := p.sim.Stats().KickOffs
		if ticks != exports || distinct != exports || kickOffs != exports {
			t.Errorf("%s: %d ticks, %d exports of %d distinct ticks, %d kick-offs: want them equal", p.name, ticks, exports, distinct, kickOffs)
		}
		// Every even second between the first and the last tick was acted on, once.
		missing := s.number(`
			SELECT count(*) FROM (SELECT generate_series(min(due_at), max(due_at), '2s') AS due FROM ingest.tick
				WHERE payer = $1 AND outcome <> 'registered') AS s
			WHERE NOT EXISTS (SELECT FROM ingest.tick WHERE payer = $1 AND due_at = s.due)`, p.name)
		if missing != 0 {
			t.Errorf("%s: %d ticks are missing", p.name, missing)
		}
	}
	// Both worked: the jobs name who attempted them.
	if n := s.number(`SELECT count(DISTINCT who) FROM (SELECT unnest(attempted_by) AS who FROM river.river_job) x`); n != 2 {
		t.Logf("%d instance(s) did all the work", n)
	}
}
