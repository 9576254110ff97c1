package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

func TestQuarantine_says_where_a_bad_line_stands_and_shows_it_only_when_asked(t *testing.T) {
	t.Parallel()
	const bad = "{\"resourceType\":\"Patient\",\"id\":\"1\",\"name\":\"Secret\x1b[31m\""
	s := newSite(t)
	p := s.payer("acme", payersim.Options{Patients: 20, Seed: 5, Faults: payersim.Faults{
		BadLines: []payersim.BadLine{{Type: "Patient", AfterLine: 3, Raw: bad}},
	}})
	s.configure("", []payer{p}, `load: {quarantine_max_share: 0.1}`)
	if got := s.runJSON("acme"); got.Quarantined != 1 {
		t.Fatalf("got %+v, want one line in quarantine", got)
	}
	list, err := s.run("quarantine", "list", "--payer", "acme")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(list, "not_json") || !strings.Contains(list, "Patient") || strings.Contains(list, "Secret") {
		t.Errorf("the list must name type and reason, and nothing of the line:\n%s", list)
	}
	text, err := s.run("quarantine", "list", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var lines []struct {
		ID     int64  `json:"id"`
		Line   int64  `json:"line"`
		Bytes  int    `json:"bytes"`
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(text), &lines); err != nil || len(lines) != 1 {
		t.Fatalf("got %v and %s, want one line", err, text)
	}
	if lines[0].Line != 4 || lines[0].Bytes != len(bad) {
		t.Errorf("got %+v, want line 4 of %d bytes", lines[0], len(bad))
	}
	number := strconv.FormatInt(lines[0].ID, 10)
	shown, err := s.run("quarantine", "show", number)
	if err != nil || !strings.Contains(shown, "Secret") || strings.Contains(shown, "\x1b") {
		t.Errorf("got %v and %q, want the line without what moves a terminal", err, shown)
	}
	if raw, err := s.run("quarantine", "show", number, "--raw"); err != nil || raw != bad {
		t.Errorf("got %v and %q, want the bytes that came", err, raw)
	}
	if _, err := s.run("quarantine", "show", "999"); err == nil || !strings.Contains(err.Error(), "no such line") {
		t.Errorf("a number that is not there: got %v", err)
	}
	if list, err := s.run("quarantine", "list", "--reason", "too_long"); err != nil || strings.Contains(list, "Patient") {
		t.Errorf("another reason: got %v and %s", err, list)
	}
}
