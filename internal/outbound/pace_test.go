package outbound

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFILE10_requestsAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPace(10)
		start := time.Now()
		var group sync.WaitGroup
		for range 31 {
			group.Go(func() {
				if err := p.wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("got %v for 31 requests at 10 a second, want 3s", got)
		}
		time.Sleep(time.Hour) // virtual: what was not used is not saved up
		start = time.Now()
		for range 3 {
			if err := p.wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := time.Since(start); got != 200*time.Millisecond {
			t.Errorf("got %v for 3 requests after a pause, want 200ms", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

func TestPace_of_zero_never_waits(t *testing.T) {
	t.Parallel()
	if p := newPace(0); p != nil || p.wait(t.Context()) != nil {
		t.Error("got a pace for 0 requests a second")
	}
}
