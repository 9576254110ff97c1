package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

func TestFleet_instances_with_different_configurations_for_a_payer_are_told(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("one", payersim.Options{Patients: 3, Seed: 1})
	other := s.payer("other", payersim.Options{Patients: 3, Seed: 2})
	s.configure("", []payer{p, other}, "schedule: \"@daily\"")
	common := s.config
	first := s.start("serve")
	s.wait("the first instance", func() bool { return s.number(`SELECT count(*) FROM ingest.instance`) == 1 })
	text, err := os.ReadFile(common)
	if err != nil {
		t.Fatal(err)
	}
	s.config = common + ".second"
	write := func(text string) {
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(string(text), "@daily", "@weekly", 1)) // of the first payer
	second := s.start("serve")
	const warning = "instances have different configurations for a payer"
	s.wait("the warning", func() bool {
		return strings.Contains(first.log.String(), warning) && strings.Contains(second.log.String(), warning)
	})
	for _, d := range []*process{first, second} {
		s.wantMetrics(d, `ingestd_config_mismatch{payer="one"} 1`, "ingestd_instances 2")
		if strings.Contains(s.metrics(d), `ingestd_config_mismatch{payer="other"}`) {
			t.Error("a payer that is configured alike is told as different")
		}
	}
	for _, command := range [][]string{{"status"}, {"instances", "list"}} {
		if out, err := s.run(command...); err != nil || !strings.Contains(out, "one: instances have different configurations: ") {
			t.Errorf("%v: got %q, %v", command, out, err)
		}
	}
	write(string(text))
	s.hangUp(second, exchanged, 1)
	const again = "instances have the same configuration for a payer again"
	s.wait("their agreement", func() bool {
		return strings.Contains(first.log.String(), again) && strings.Contains(second.log.String(), again)
	})
	for _, d := range []*process{first, second} {
		if n := strings.Count(d.log.String(), warning); n != 1 {
			t.Errorf("warned %d times of one difference", n)
		}
	}
	out, err := s.run("instances", "list", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var listed []struct {
		Instance string            `json:"instance"`
		Live     bool              `json:"live"`
		Digest   string            `json:"config_digest"`
		Payers   map[string]string `json:"payers"`
	}
	if err := json.Unmarshal([]byte(out), &listed); err != nil || len(listed) != 2 || !listed[0].Live || listed[0].Digest != listed[1].Digest ||
		len(listed[0].Payers) != 2 || listed[0].Instance == listed[1].Instance {
		t.Errorf("got %s, %v", out, err)
	}
	s.stop(first)
	s.stop(second)
	if n := s.number(`SELECT count(*) FROM ingest.instance`); n != 0 {
		t.Errorf("%d instances are still listed after they stopped", n)
	}
}

func TestCheck_against_a_running_daemon_tells_what_a_reload_would_change(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.payer("one", payersim.Options{Patients: 3, Seed: 1})
	other := s.payer("other", payersim.Options{Patients: 3, Seed: 2})
	token := s.dir + "/token"
	if err := os.WriteFile(token, []byte("HUNTER2-"+strings.Repeat("x", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := strings.NewReplacer(`admin: {listen: "127.0.0.1:0"}`, `admin: {listen: "127.0.0.1:0", token: "file:`+token+`"}`)
	configure := func(payers []payer, extra string) {
		s.configure("", payers, extra)
		text, err := os.ReadFile(s.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.config, []byte(admin.Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure([]payer{p}, "schedule: \"@daily\"")
	daemon := s.start("serve")
	address := s.admin(daemon)
	if out, err := s.run("check", "--against", address); err != nil || !strings.Contains(out, "no difference: the daemon uses this configuration since ") {
		t.Errorf("got %q, %v", out, err)
	}
	configure([]payer{p, other}, "schedule: \"@weekly\"")
	out, err := s.run("check", "--against", address)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("with differences: got %v", err)
	}
	for _, want := range []string{"payer one:\n  schedule: @daily → @weekly\n", "payer other: added, " + other.url + "/fhir\n", "\n2 differences from what the daemon uses"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s, want %q", out, want)
		}
	}
	if strings.Contains(out, "HUNTER2") {
		t.Errorf("a secret is shown: %s", out)
	}
	s.hangUp(daemon, exchanged, 1)
	if out, err := s.run("check", "--against", address); err != nil {
		t.Errorf("after the reload: got %q, %v", out, err)
	}
	if err := os.WriteFile(token, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.run("check", "--against", address); err == nil || !strings.Contains(err.Error(), "refuses the admin token") {
		t.Errorf("with a wrong token: got %v", err)
	}
	if _, err := s.run("check", "--against", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("with a wrong address: got %v", err)
	}
	s.stop(daemon)
}
