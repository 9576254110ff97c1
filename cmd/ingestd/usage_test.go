package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/ops"
)

func TestCheck_against_marks_what_a_reload_does_not_change(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := printDifferences(&out, []config.Difference{
		{Key: "log.level", Change: config.Changed, From: "info", To: "debug"},
		{Key: "workers.control", Change: config.Changed, From: "8", To: "9"},
		{Payer: "p", Key: "schedule", Change: config.Added, To: "@daily"},
	}, "d", ops.Configured{LoadedAt: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if want := "log.level: info → debug\nworkers.control: 8 → 9 (after a restart)\npayer p:\n  schedule: added: @daily\n"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestRun_refuses_a_since_that_lies_in_the_future(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--detach"}, nil} {
		var stdout, stderr bytes.Buffer
		args = append([]string{"run", "p", "--since", time.Now().AddDate(1, 0, 0).Format(time.RFC3339), "--config", "/nowhere"}, args...)
		if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "lies in the future") {
			t.Errorf("%v: exit code %d, %q", args, code, stderr.String())
		}
	}
}

func TestNotifyTest_without_any_target_says_that_there_is_none(t *testing.T) {
	t.Parallel()
	if code, _, stderr := runNotify(t, "", "notify", "test", "chat"); code != exitUsage || !strings.Contains(stderr, "has no notify targets") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
