package scheduler

import (
	"fmt"
	"testing"
	"time"
)

func TestFILE10_a_host_that_takes_far_longer_than_usual_counts_as_overloaded(t *testing.T) {
	t.Parallel()
	var p pace
	for i, step := range []struct {
		took time.Duration
		slow bool
	}{
		{100 * time.Millisecond, false},
		{time.Second, false},
		{2100 * time.Millisecond, true},
		{100 * time.Millisecond, false},
		{30 * time.Second, true},
	} {
		if got := p.slow("a", step.took); got != step.slow {
			t.Errorf("%d: %s: got slow %t", i, step.took, got)
		}
	}
	if p.slow("b", time.Minute) {
		t.Error("a host counts as slow that was never faster")
	}
	for range 100 { // and what lasts becomes usual
		p.slow("a", 30*time.Second)
	}
	if p.slow("a", 30*time.Second) {
		t.Error("a host that has always been slow for a hundred files counts as overloaded")
	}
	for i := range 3 * maxPaces {
		p.slow(fmt.Sprint(i), time.Second)
	}
	if len(p.usual) > maxPaces {
		t.Errorf("%d hosts are remembered", len(p.usual))
	}
}
