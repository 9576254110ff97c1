package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/store"
)

// nextVersion is the version of the binary that the fleet is rolled to.
const nextVersion = "v9.9.9-next"

// buildNext builds an ingestd of another version, which brings one more migration: sql.
func buildNext(t *testing.T, sql string) string {
	t.Helper()
	dir := t.TempDir()
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	added := filepath.Join(strings.TrimSpace(string(module)), "migrations", fmt.Sprintf("%04d_next.sql", store.SchemaVersion()+1))
	migration, overlay, next := filepath.Join(dir, "next.sql"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "ingestd")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {added: migration}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{migration: sql, overlay: string(text)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"build", "-overlay", overlay, "-ldflags", "-X main.version=" + nextVersion, "-o", next}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.CommandContext(t.Context(), "go", append(args, "ingestd/cmd/ingestd")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the next ingestd: %v\n%s", err, out)
	}
	return next
}

// ready is what an instance says of itself.
func (s *site) ready(p *process) string {
	s.t.Helper()
	response, err := http.Get(s.admin(p) + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct{ Status, Reason string }
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSuffix(body.Status+": "+body.Reason, ": ")
}

func TestRolling_from_one_version_to_the_next_loses_and_doubles_no_tick_and_hands_exports_over(t *testing.T) {
	t.Parallel()
	next := buildNext(t, "ALTER TABLE ingest.export ADD COLUMN of_the_next text NOT NULL DEFAULT 'none';\n"+
		"CREATE TABLE ingest.of_the_next (id bigint PRIMARY KEY);\n")
	s := newSite(t)
	const every = 20 * time.Second
	payers := make([]payer, 4)
	for i := range payers {
		payers[i] = s.payer(fmt.Sprintf("p%d", i), payersim.Options{
			Patients: 12, Seed: uint64(500 + i), LinesPerFile: 40, Faults: payersim.Faults{BytesPerSecond: 40_000},
		})
	}
	s.configure("workers: {chunk: 64KiB}\nshutdown: {grace: 5s}", payers, fmt.Sprintf(`
schedule: "@every %s"
export: {since: never}
limits: {downloads: 2, poll_min: 200ms, poll_max: 1s}
`, every))
	old := []*process{s.start("serve"), s.start("serve")}
	s.wait("loads on both old instances", func() bool { return len(s.loading()) == 2 })
	oldNames := s.loading()

	// One by one: the next version comes up, migrates, and an old instance goes in the middle of its loads.
	var young []*process
	roll := func() {
		young = append(young, s.startBinary(next, "serve"))
		s.wait("the schema of the next version", func() bool {
			return s.number(`SELECT max(version) FROM ingest.schema_migration`) == int64(store.SchemaVersion()+1)
		})
		s.wait("the next version to be at work", func() bool {
			return s.number(`SELECT count(*) FROM ingest.instance WHERE version = $1`, nextVersion) == int64(len(young))
		})
	}
	roll()
	for _, d := range append(old, young...) {
		if got := s.ready(d); got != "ready" {
			t.Errorf("while both versions run, one says %q", got)
		}
	}
	if n := s.number(`SELECT count(DISTINCT version) FROM ingest.instance`); n != 2 {
		t.Errorf("%d versions are at work, want two", n)
	}
	for _, command := range [][]string{{"status"}, {"instances", "list"}, {"instances", "list", "--server", s.admin(old[1])}} {
		if out, err := s.run(command...); err != nil || !strings.Contains(out, "instances have different versions: ") || !strings.Contains(out, nextVersion+" (") {
			t.Errorf("%v: got %q, %v", command, out, err)
		}
	}
	s.wait("loads of an old instance", func() bool { return s.loads(oldNames[0])+s.loads(oldNames[1]) > 0 })
	s.stop(old[0])
	roll()
	s.wait("loads, or the end of all, on the last old instance", func() bool { return s.loads(oldNames[0])+s.loads(oldNames[1]) > 0 })
	s.stop(old[1])

	handedOver := func() int64 {
		return s.number(`SELECT count(*) FROM (
			SELECT args ->> 'export_id' FROM river.river_job, unnest(attempted_by) AS worker WHERE kind IN ('load_file', 'publish_export')
			GROUP BY 1 HAVING bool_or(worker = ANY ($1)) AND bool_or(worker <> ALL ($1))) AS x`, oldNames)
	}
	s.wait("all payers to be published by the next version", func() bool {
		return s.number(`SELECT count(DISTINCT payer) FROM ingest.export WHERE state = 'published' AND due_at > (
			SELECT min(started_at) FROM ingest.instance WHERE version = $1)`, nextVersion) == int64(len(payers))
	})
	// Back to the old version, for as long as the next one has only added to the schema.
	back := s.start("serve")
	s.wait("the old version again", func() bool {
		return s.number(`SELECT count(*) FROM ingest.instance WHERE version <> $1`, nextVersion) == 1
	})
	for _, d := range young {
		s.stop(d)
	}
	ticks := s.number(`SELECT count(*) FROM ingest.tick`)
	s.wait("ticks of the old version alone", func() bool { return s.number(`SELECT count(*) FROM ingest.tick`) >= ticks+int64(len(payers)) })
	if out, err := s.run("pause", "--all"); err != nil {
		t.Fatalf("pause: %s, %v", out, err)
	}
	s.wait("no export to run", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE finished_at IS NULL`) == 0
	})
	s.stop(back)

	if n := handedOver(); n == 0 {
		t.Error("no export was handed over from the old version to the next: it proves nothing")
	} else {
		t.Logf("%d exports were handed over from the old version to the next", n)
	}
	s.eachTickOnce(payers)
	missing := s.number(`SELECT coalesce(sum(n), 0) FROM (
		SELECT extract(epoch FROM max(due_at) - min(due_at)) / $1 + 1 - count(*) AS n FROM ingest.tick
		WHERE outcome <> 'registered' GROUP BY payer) AS x`, every.Seconds())
	if missing != 0 {
		t.Errorf("%d ticks were not acted on", missing)
	}
	for _, p := range payers {
		s.compare(p.name, held(t, p.sim))
	}
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE state <> 'published' AND state <> 'canceled' OR lines <> inserted + updated + unchanged`); n != 0 {
		t.Errorf("%d exports did not come to a good end, or staged lines twice:\n%s", n, s.dump())
	}
}

func TestRolling_to_a_version_that_older_ones_cannot_work_beside_waits_for_their_end(t *testing.T) {
	t.Parallel()
	next := buildNext(t, fmt.Sprintf("-- needs: %d\nALTER TABLE ingest.tick DROP COLUMN export_id;\n", store.SchemaVersion()+1))
	s := newSite(t)
	s.configure("", nil, "")
	run := func(binary string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append(args, "--config", s.config)...)
		out, err := cmd.CombinedOutput()
		if err == nil {
			out = append(out, "done"...)
		}
		return string(out)
	}
	old := s.start("serve")
	s.wait("the old instance", func() bool { return s.number(`SELECT count(*) FROM ingest.instance`) == 1 })
	for _, args := range [][]string{{"migrate", "up"}, {"serve"}} {
		if out := run(next, args...); !strings.Contains(out, "instances are at work whose version cannot go on with schema version ") ||
			!strings.Contains(out, ": stop them first") {
			t.Errorf("%v beside an old instance: got %s", args, out)
		}
	}
	if out := run(next, "serve", "--skip-migrations"); !strings.Contains(out, "run 'ingestd migrate up'") {
		t.Errorf("the next version on the old schema: got %s", out)
	}
	if got := s.ready(old); got != "ready" {
		t.Errorf("the old instance says %q", got)
	}
	s.stop(old)
	if out := run(next, "migrate", "up"); !strings.HasSuffix(out, "done") {
		t.Errorf("once the old instance is gone: got %s", out)
	}
	for _, args := range [][]string{{"serve"}, {"serve", "--skip-migrations"}, {"status"}} {
		if out := run(binary, args...); !strings.Contains(out, "run the newer ingestd that migrated it") {
			t.Errorf("%v of the old version on the next one's schema: got %s", args, out)
		}
	}
}
