package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ingestd/internal/payersim"
)

func TestPause_lets_schedules_rest_and_resume_makes_one_tick_up(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	resting := s.payer("resting", payersim.Options{Patients: 3, Seed: 1})
	other := s.payer("other", payersim.Options{Patients: 3, Seed: 2})
	s.configure("", []payer{resting, other}, "schedule: \"@every 2s\"\njitter: 0s")
	if out, err := s.run("pause", "resting"); err != nil || !strings.Contains(out, "paused resting") {
		t.Fatalf("got %q, %v", out, err)
	}
	if _, err := s.run("pause", "nobody"); err == nil || !strings.Contains(err.Error(), "not in the configuration") {
		t.Errorf("pause of an unknown payer: got %v", err)
	}
	daemon := s.start("serve")
	s.wait("the other payer's exports", func() bool { return s.published("other") >= 3 })
	if got := s.number(`SELECT count(*) FROM ingest.export WHERE payer = 'resting'`); got != 0 {
		t.Errorf("exports of a paused payer: got %d, want none", got)
	}
	text, err := s.run("status", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var status []struct {
		Payer    string     `json:"payer"`
		NextRun  *time.Time `json:"next_run"`
		PausedAt *time.Time `json:"paused_at"`
		PausedBy string     `json:"paused_by"`
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status) != 2 {
		t.Fatalf("%v: %s", err, text)
	}
	for _, p := range status {
		if paused := p.Payer == "resting"; (p.PausedAt != nil) != paused || (p.NextRun == nil) != paused || (p.PausedBy != "") != paused {
			t.Errorf("status: got %+v", p)
		}
	}
	if out, err := s.run("resume", "--all"); err != nil || !strings.Contains(out, "resumed resting") {
		t.Fatalf("got %q, %v", out, err)
	}
	s.wait("the resumed payer's export", func() bool { return s.published("resting") > 0 })
	if out, err := s.run("resume", "resting"); err != nil || !strings.Contains(out, "nothing was paused") {
		t.Errorf("resumed again: got %q, %v", out, err)
	}
	s.stop(daemon)
}
