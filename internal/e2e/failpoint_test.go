//go:build faults

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ingestd/internal/failpoint"
	"ingestd/internal/payersim"
)

// mortal builds the ingestd that can be made to die at a point.
func mortal(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ingestd")
	build := exec.Command("go", "build", "-tags", "failpoint", "-o", path, "ingestd/cmd/ingestd")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatalf("build ingestd: %v", err)
	}
	return path
}

// death is a point and the export whose work it ends.
type death struct {
	point failpoint.Point
	pass  int
	merge bool // in the second export, whose rows are merged into those of the first
}

func (d death) String() string {
	if d.merge {
		return string(d.point) + " of a second export"
	}
	return string(d.point)
}

// row is the row of the fault table in docs/reliability.md that a death belongs to.
func (d death) row() string {
	name := string(d.point)
	for prefix, row := range map[string]string{
		"tick_": "1", "token_": "1", "kick_off_": "1", "poll_": "1", "manifest_": "1", "reclaim_": "1",
		"file_": "2", "stage_": "2", "chunk_": "2", "prepare_": "3", "publish_": "3", "clean_up_": "4",
	} {
		if strings.HasPrefix(name, prefix) {
			return row
		}
	}
	return "0"
}

func deaths() []death {
	var all []death
	for _, point := range failpoint.Points() {
		d := death{point: point, pass: 1}
		if strings.HasPrefix(string(point), "chunk_") {
			d.pass = 2 // one chunk stands
		}
		all = append(all, d)
		// What is written is written otherwise where rows are published already.
		if strings.HasPrefix(string(point), "chunk_") || d.row() == "3" {
			d.merge = true
			all = append(all, d)
		}
	}
	return all
}

// The simulated payer runs one export for a client and names it in its refusal of another, so that an export whose acceptance was lost
// can be found again; where a payer does not, no client could.
func TestServe_that_is_killed_at_any_point_loses_and_doubles_nothing(t *testing.T) {
	t.Parallel()
	binary := mortal(t)
	for _, d := range deaths() {
		if d.row() == "0" {
			t.Errorf("%s belongs to no row", d.point)
		}
		t.Run(d.row()+" "+d.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.payer("acme", payersim.Options{
				Patients: 12, Seed: 21, Changes: 0.3, LinesPerFile: 60, Profile: "ab2d", Faults: payersim.Faults{ExportDuration: 1200 * time.Millisecond},
			})
			scheduled := strings.HasPrefix(string(d.point), "tick_")
			extra := faultExtra + "\nlimits: " + limits + "}\n"
			if scheduled {
				extra += `schedule: "@every 4s"`
			}
			s.configure("workers: {chunk: 64KiB}", []payer{p}, extra)
			if d.merge {
				s.round(t, p, s.start("serve"))
			}
			before := s.rows(t, p)

			first := d
			if strings.HasPrefix(string(d.point), "reclaim_") {
				first.point = failpoint.ChunkCommitted // the next instance has something to reclaim
			}
			s.dies(binary, first, func() {
				if !scheduled {
					s.ask(t, p)
				}
			})
			if first.point != d.point {
				s.dies(binary, d, func() {})
			}
			s.wholeOrNothing(t, p, before)

			s.settled(t, p, s.start("serve"), scheduled)
		})
	}
}

// dies starts a daemon, gives it work, and waits until it has died of a death.
func (s *site) dies(binary string, d death, work func()) {
	s.t.Helper()
	cmd := exec.Command(binary, "serve", "--config", s.config)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", failpoint.Variable, d.point, d.pass))
	victim := s.launch(cmd)
	s.forget(victim) // it is to end
	work()
	select {
	case <-victim.done:
	case <-time.After(patience):
		s.t.Fatalf("it did not come to %s:\n%s", d.point, s.dump())
	}
	if status, ok := victim.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		s.t.Fatalf("it ended with %v, want by SIGKILL", victim.err)
	}
}

// ask asks for an export, which a daemon is to work.
func (s *site) ask(t *testing.T, p payer) {
	t.Helper()
	if _, err := s.run("run", p.name, "--detach", "--full"); err != nil {
		t.Fatal(err)
	}
}

// round lets a daemon publish an export, and ends it.
func (s *site) round(t *testing.T, p payer, daemon *process) {
	t.Helper()
	s.ask(t, p)
	s.settled(t, p, daemon, false)
}

// settled waits until a daemon has brought all that there is to do to its end, ends it, and compares what came of it with the payer.
func (s *site) settled(t *testing.T, p payer, daemon *process, scheduled bool) {
	t.Helper()
	if daemon.cmd.Stderr == daemon.log {
		s.wait("the engine", func() bool { return strings.Contains(daemon.log.String(), "engine started") })
	}
	if scheduled {
		s.wait("two publishes", func() bool { return s.published(p.name) >= 2 })
		if _, err := s.run("pause", p.name); err != nil {
			t.Fatal(err)
		}
	}
	s.wait("the end of all exports", func() bool {
		return s.published(p.name) > 0 && s.number(`SELECT count(*) FROM ingest.export WHERE state <> 'published'`) == 0
	})
	s.wait("the end of the jobs at the payer", func() bool { return p.sim.Stats().OpenJobs == 0 })
	s.wait("the clean-up", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE cleaned_up_at IS NULL`) == 0 &&
			s.number(`SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
				WHERE n.nspname = 'ingest_stage' AND c.relkind = 'r'`) == 0
	})
	s.stop(daemon)
	s.compare(p.name, held(t, p.sim))
	stats := p.sim.Stats()
	exports := s.number(`SELECT count(*) FROM ingest.export`)
	if stats.KickOffs != exports {
		t.Errorf("the payer accepted %d exports, and %d are known:\n%s", stats.KickOffs, exports, s.dump())
	}
	if stats.TokensRefused != 0 {
		t.Errorf("%d token requests were refused: an assertion was sent twice, or was wrong", stats.TokensRefused)
	}
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE superseded > 0
		OR lines <> inserted + updated + unchanged + quarantined`); n != 0 {
		t.Errorf("%d exports staged lines twice, or lost some:\n%s", n, s.dump())
	}
	if scheduled {
		s.eachTickOnce([]payer{p})
	}
}

// rows is what readers see of a payer, as numbers of rows and a digest of them.
func (s *site) rows(t *testing.T, p payer) string {
	t.Helper()
	var seen string
	err := s.db.QueryRow(t.Context(), `SELECT coalesce(string_agg(digest, ' ' ORDER BY digest), '') FROM (
		SELECT t.relname || ':' || coalesce((xpath('/row/n/text()', query_to_xml(format(
			'SELECT md5(string_agg(id || digest::text, '','' ORDER BY id)) AS n FROM fhir.%I WHERE payer = %L', t.relname, $1::text), true, false, '')))[1]::text, '')
		FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace
		WHERE n.nspname = 'fhir' AND t.relkind = 'p') AS x (digest)`, p.name).Scan(&seen)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// wholeOrNothing wants readers to see what they saw before, or what the payer's last export held.
func (s *site) wholeOrNothing(t *testing.T, p payer, before string) {
	t.Helper()
	last := s.number(`SELECT coalesce(max(id), 0) FROM ingest.export WHERE state = 'published'`)
	now := s.rows(t, p)
	ids := s.number(`SELECT coalesce(max(id), 0) FROM ingest.export`)
	switch {
	case last == ids && ids > 0:
		s.compare(p.name, held(t, p.sim))
	case trimTypes(now) != trimTypes(before):
		t.Errorf("readers see something else than before the death, and no publish:\n%s\n%s", now, before)
	}
}

// trimTypes drops the types of which there is no row: that a table stands is nothing that readers see.
func trimTypes(rows string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(rows), func(word string) bool { return strings.HasSuffix(word, ":") }), " ")
}

func TestBinary_without_the_tag_knows_no_failpoints(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{binary: false, mortal(t): true} {
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(program, []byte(failpoint.Variable)); got != want {
			t.Errorf("%s holds %s: %t, want %t", path, failpoint.Variable, got, want)
		}
	}
}
