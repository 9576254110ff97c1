package daemon

import (
	"testing"
	"time"
)

func TestPulse_tells_a_loop_that_is_silent_for_too_long_and_none_that_has_ended(t *testing.T) {
	t.Parallel()
	var p pulse
	now := time.Now()
	if got := p.silent(now); got != "" {
		t.Errorf("before any loop began: got %q", got)
	}
	p.beat(loopFleet)
	p.beat(loopReload)
	if got := p.silent(now.Add(pulseLimit / 2)); got != "" {
		t.Errorf("in time: got %q", got)
	}
	p.end(loopReload)
	if got := p.silent(now.Add(2 * pulseLimit)); got != loopFleet {
		t.Errorf("too late: got %q, want %q", got, loopFleet)
	}
}

func TestWatch_acts_on_what_two_looks_in_a_row_find(t *testing.T) {
	t.Parallel()
	w := watch{}
	w.saw("a")
	for i, step := range []struct {
		fingerprint string
		changed     bool
	}{
		{"a", false},
		{"half of b", false},
		{"b", false},
		{"b", true},
		{"b", false},
		{"c", false},
		{"b", false},
		{"b", false}, // it went back before anybody acted
		{"a", false},
		{"a", true},
	} {
		if got := w.changed(step.fingerprint); got != step.changed {
			t.Errorf("look %d, %s: got %t", i, step.fingerprint, got)
		}
	}
}
