package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
)

// hangUp sends SIGHUP and waits until the log says n times that the reload ended so.
func (s *site) hangUp(p *process, says string, n int) {
	s.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	s.wait(says, func() bool { return strings.Count(p.log.String(), says) >= n })
}

const (
	exchanged = "configuration exchanged"
	refused   = "the configuration is refused"
)

var adminAddress = regexp.MustCompile(`msg="admin listener" address=(\S+)`)

// admin is the URL of the admin listener.
func (s *site) admin(p *process) string {
	s.t.Helper()
	var found []string
	s.wait("the admin listener", func() bool {
		found = adminAddress.FindStringSubmatch(p.log.String())
		return found != nil
	})
	return "http://" + found[1]
}

func (s *site) metrics(p *process) string {
	s.t.Helper()
	response, err := http.Get(s.admin(p) + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

func (s *site) wantMetrics(p *process, lines ...string) {
	s.t.Helper()
	for _, line := range lines { // what is logged is counted a moment later
		s.wait("the metric "+line, func() bool { return strings.Contains(s.metrics(p), "\n"+line+"\n") })
	}
}

func TestFault7_a_broken_configuration_is_refused_whole_and_the_old_one_stays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("steady", payersim.Options{Patients: 3, Seed: 1})
	next := s.payer("next", payersim.Options{Patients: 3, Seed: 2})
	const extra = "schedule: \"@every 2s\"\nexport: {since: never}"
	s.configure("", []payer{p, next}, extra)
	both, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.configure("", []payer{p}, extra)
	daemon := s.start("serve")
	s.wait("a publish", func() bool { return s.published("steady") >= 1 })
	// A payer is added, and the log level would change; but further down stands a mistake.
	broken := strings.Replace(string(both), "format: text", "format: text, level: error", 1) + "    limits: {downloads: many}\n"
	if err := os.WriteFile(s.config, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	line := strings.Count(broken, "\n")
	s.hangUp(daemon, refused, 1)
	if want := fmt.Sprintf("ingestd.yaml:%d: payers[1].limits.downloads: expected a whole number", line); !strings.Contains(daemon.log.String(), want) {
		t.Errorf("the log does not name %q", want)
	}
	s.wantMetrics(daemon, `ingestd_config_reloads_total{result="refused"} 1`, `ingestd_config_last_reload_successful 0`)
	published := s.published("steady")
	s.wait("another publish", func() bool { return s.published("steady") > published })
	if n := s.number(`SELECT count(*) FROM ingest.tick WHERE payer = 'next'`); n != 0 {
		t.Error("a part of the broken configuration is in use")
	}
	// A key that cannot be read is seen only when it is loaded, and refuses the whole as well.
	lost := strings.Replace(string(both), "key.pem", "lost.pem", 1)
	if err := os.WriteFile(s.config, []byte(lost), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hangUp(daemon, refused, 2)
	if err := os.WriteFile(s.config, both, 0o600); err != nil {
		t.Fatal(err)
	}
	s.hangUp(daemon, exchanged, 1)
	s.wantMetrics(daemon, `ingestd_config_reloads_total{result="refused"} 2`, `ingestd_config_reloads_total{result="applied"} 1`,
		`ingestd_config_last_reload_successful 1`)
	s.wait("a publish of the new payer", func() bool { return s.published("next") >= 1 })
	s.stop(daemon)
	s.compare("next", held(t, next.sim))
}

// leaving is a payer whose export lasts long enough to be met in its middle: many files, slowly.
func (s *site) leaving(name string) payer {
	return s.payer(name, payersim.Options{
		Patients: 60, Seed: 4, LinesPerFile: 150, Faults: payersim.Faults{BytesPerSecond: 150_000},
	})
}

// underWay waits until some files of a payer's export are loaded, and others wait.
func (s *site) underWay(name string) {
	s.t.Helper()
	s.wait("some files of "+name, func() bool {
		return s.number(`SELECT count(*) FROM ingest.export_file AS f JOIN ingest.export AS e ON e.id = f.export_id
			WHERE e.payer = $1 AND e.state = 'loading' AND f.state = 'loaded'`, name) >= 2
	})
	if n := s.number(`SELECT count(*) FROM ingest.export_file AS f JOIN ingest.export AS e ON e.id = f.export_id
		WHERE e.payer = $1 AND f.state = 'pending'`, name); n == 0 {
		s.t.Fatal("the load was too quick to be met in its middle")
	}
}

func TestFault8_payers_are_added_changed_and_removed_while_their_exports_run(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	leaving, changing := s.leaving("leaving"), s.leaving("changing")
	joining := s.payer("joining", payersim.Options{Patients: 3, Seed: 5})
	leaving.extra = "export: {since: never}\nload: {history: none}"
	changing.extra = "export: {since: never, types: [Patient, Coverage, ExplanationOfBenefit]}"
	const common = "schedule: \"@every 2s\"\nlimits: {downloads: 2, poll_min: 100ms, poll_max: 1s}"
	s.configure("", []payer{leaving, changing}, common)
	daemon := s.start("serve")
	s.underWay("leaving")
	s.underWay("changing")

	changing.extra = "export: {since: never, types: [Patient]}"
	s.configure("workers: {control: 3, chunk: 512KiB}", []payer{changing, joining}, common)
	s.hangUp(daemon, exchanged, 1)
	for _, want := range []string{"payers_added=[joining]", "payers_changed=[changing]", "payers_removed=[leaving]", "keys=[workers.control]"} {
		if !strings.Contains(daemon.log.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	s.wait("a publish of the new payer", func() bool { return s.published("joining") >= 1 })
	s.wait("the publish of the removed payer", func() bool { return s.published("leaving") == 1 })
	s.wait("its DELETE", func() bool { return leaving.sim.Stats().Deletes == 1 })
	s.wait("two publishes of the changed payer", func() bool { return s.published("changing") >= 2 })
	s.stop(daemon)

	s.compare("leaving", held(t, leaving.sim))
	s.compare("joining", held(t, joining.sim))
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE payer = 'leaving'`); n != 1 || leaving.sim.Stats().OpenJobs != 0 {
		t.Errorf("%d exports of the removed payer, %d jobs left there: want one, and none", n, leaving.sim.Stats().OpenJobs)
	}
	// The running export went on with the types that it began with; only the next has the new ones.
	for _, check := range []struct {
		what, sql string
		want      int64
	}{
		{"types of the running export", `SELECT count(*) FROM ingest.export_type WHERE export_id = (SELECT min(id) FROM ingest.export WHERE payer = 'changing')`, 3},
		{"types of the next export", `SELECT count(*) FROM ingest.export_type WHERE export_id = (SELECT id FROM ingest.export WHERE payer = 'changing' ORDER BY id OFFSET 1 LIMIT 1)`, 1},
		{"settings of the changed payer", `SELECT count(*) FROM ingest.settings WHERE payer = 'changing'`, 2},
	} {
		if got := s.number(check.sql); got != check.want {
			t.Errorf("%s: got %d, want %d", check.what, got, check.want)
		}
	}
}

func TestFault8_the_export_of_a_payer_that_is_removed_over_a_restart_is_finished_all_the_same(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	leaving := s.leaving("leaving")
	staying := s.payer("staying", payersim.Options{Patients: 3, Seed: 5})
	leaving.extra = "export: {since: never}"
	const common = "schedule: \"@every 2s\""
	s.configure("", []payer{leaving, staying}, common)
	first := s.start("serve")
	s.underWay("leaving")
	s.kill(first)
	s.configure("", []payer{staying}, common)
	// The one that was killed counts as live for a while, and what it alone knows is left to it.
	if _, err := s.db.Exec(t.Context(), `UPDATE ingest.instance SET seen_at = now() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	second := s.start("serve")
	s.wait("the publish of the removed payer", func() bool { return s.published("leaving") == 1 })
	s.wait("its DELETE", func() bool { return leaving.sim.Stats().Deletes == 1 })
	s.stop(second)
	s.compare("leaving", held(t, leaving.sim))
}

func TestFault8_the_export_of_a_removed_payer_is_canceled_where_that_is_wanted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	leaving := s.leaving("leaving")
	staying := s.payer("staying", payersim.Options{Patients: 3, Seed: 5})
	staying.extra = "enabled: false"
	const common = "schedule: \"@every 2s\""
	s.configure("reload: {removed_payers: cancel}", []payer{leaving, staying}, common)
	daemon := s.start("serve")
	s.underWay("leaving")
	s.configure("reload: {removed_payers: cancel}", []payer{staying}, common)
	s.hangUp(daemon, exchanged, 1)
	s.wait("the end of the export, and its clean-up", func() bool {
		return s.number(`SELECT count(*) FROM ingest.export WHERE payer = 'leaving' AND state = 'canceled' AND cleaned_up_at IS NOT NULL`) == 1
	})
	if got := leaving.sim.Stats(); got.Deletes != 1 || got.OpenJobs != 0 {
		t.Errorf("%d DELETEs, %d jobs left at the payer: want one, and none", got.Deletes, got.OpenJobs)
	}
	s.stop(daemon)
	if n := s.number(`SELECT count(*) FROM pg_tables WHERE schemaname = 'ingest_stage'`); n != 0 {
		t.Errorf("%d staging tables are left", n)
	}
}

func TestReload_watches_files_that_are_exchanged_by_a_link_as_Kubernetes_does(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.payer("first", payersim.Options{Patients: 3, Seed: 1})
	second := s.payer("second", payersim.Options{Patients: 3, Seed: 2})
	const global = "include: [payers.d/*.yaml]\nreload: {watch: true}"
	// A config map is mounted as links to ..data/FILE, where ..data is a link that is exchanged.
	mount := filepath.Join(s.dir, "payers.d")
	provide := func(version string, p payer) {
		dir := filepath.Join(mount, version)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("payers: [{name: %s, fhir_url: %q, auth: {client_id: ingestd-test}, schedule: \"@every 2s\"}]\n", p.name, p.url+"/fhir")
		if err := os.WriteFile(filepath.Join(dir, "payers.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(mount, "..data_tmp")
		if err := os.Symlink(version, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	provide("..v1", first)
	if err := os.Symlink(filepath.Join("..data", "payers.yaml"), filepath.Join(mount, "payers.yaml")); err != nil {
		t.Fatal(err)
	}
	s.configure(global, nil, "")
	daemon := s.start("serve")
	s.wait("a publish of the first payer", func() bool { return s.published("first") >= 1 })
	provide("..v2", second)
	s.wait("a publish of the second payer", func() bool { return s.published("second") >= 1 })
	s.stop(daemon)
	if !strings.Contains(daemon.log.String(), "payers_removed=[first]") {
		t.Error("the first payer is still there")
	}
}

func TestReload_rotates_a_key_without_a_refused_request(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	next, err := smartauth.GenerateKey("ES384", "next-key")
	if err != nil {
		t.Fatal(err)
	}
	if err := smartauth.WriteKeyFile(filepath.Join(s.dir, "next.pem"), next); err != nil {
		t.Fatal(err)
	}
	nextSet, err := smartauth.NewJWKS(next)
	if err != nil {
		t.Fatal(err)
	}
	s.jwks = joinSets(t, s.jwks, nextSet)
	p := s.payer("rotating", payersim.Options{Patients: 5, Seed: 1, TokenLifetime: 3 * time.Second})
	const extra = "schedule: \"@every 1s\"\nexport: {since: never}"
	s.configure("jwks: {listen: \"127.0.0.1:0\"}", []payer{p}, extra)
	daemon := s.start("serve")
	s.wait("two tokens", func() bool { return p.sim.Stats().TokensIssued >= 2 })
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf(`{id: test-key, private_key: "file:%s"`, filepath.Join(s.dir, "key.pem"))
	nextEntry := fmt.Sprintf(`{id: next-key, private_key: "file:%s"`, filepath.Join(s.dir, "next.pem"))
	for i, keys := range []string{
		entry + "}, " + nextEntry + ", state: published}",
		entry + ", state: published}, " + nextEntry + "}",
		nextEntry + "}",
	} {
		if err := os.WriteFile(s.config, []byte(strings.Replace(string(text), entry+"}", keys, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.hangUp(daemon, exchanged, i+1)
		issued := p.sim.Stats().TokensIssued
		s.wait("two more tokens", func() bool { return p.sim.Stats().TokensIssued >= issued+2 })
	}
	published := s.published(p.name)
	s.wait("another publish", func() bool { return s.published(p.name) > published })
	s.stop(daemon)
	if got := p.sim.Stats(); got.TokensRefused != 0 || got.Unauthorized != 0 {
		t.Errorf("%d token requests were refused, %d requests answered with 401: want none", got.TokensRefused, got.Unauthorized)
	}
	if n := s.number(`SELECT count(*) FROM ingest.export WHERE state = 'failed'`); n != 0 {
		t.Errorf("%d exports failed", n)
	}
}

// joinSets makes one JWK Set of several.
func joinSets(t *testing.T, sets ...[]byte) []byte {
	t.Helper()
	var all struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, set := range sets {
		var one struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := json.Unmarshal(set, &one); err != nil {
			t.Fatal(err)
		}
		all.Keys = append(all.Keys, one.Keys...)
	}
	joined, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return joined
}
