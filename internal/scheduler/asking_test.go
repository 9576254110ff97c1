package scheduler

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// failures counts the failed attempts of jobs by their code.
type failures struct {
	nobody
	mu    sync.Mutex
	codes map[string]int
}

func (f *failures) JobFailed(_, job, code string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.codes == nil {
		f.codes = make(map[string]int)
	}
	f.codes[job+" "+code]++
}

func (f *failures) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.codes[what]
}

func TestJob_of_a_payer_that_never_answers_fails_with_its_reason_and_is_not_merely_cut_off(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	p.onKickOff = func(_ http.ResponseWriter, n int) bool {
		if n == 1 {
			<-over // it takes the request, and says nothing
		}
		return true
	}
	var polled atomic.Bool
	p.onStatus = func(http.ResponseWriter, string) bool {
		if !polled.Swap(true) {
			<-over
		}
		return true
	}
	p.onFile = onePatient
	observed := &failures{}
	e := newEngine(t, s, Options{JobTimeout: 4500 * time.Millisecond, Observer: observed}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the failure of the kick-off", func() bool { return observed.count("start_export kickoff_unanswered") == 1 })
	wait(t, "the failure of a poll", func() bool { return observed.count("poll_export connection_timeout") == 1 })
	wait(t, "the publish", func() bool { return state(t, s, id) == "published" })
	if n := number(t, s, `SELECT count(*) FROM river.river_job WHERE array_to_string(errors, ' ') LIKE '%deadline exceeded%'`); n != 0 {
		t.Errorf("%d jobs were cut off by their own time, before they could note why", n)
	}
}
