package scheduler

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"ingestd/internal/config"
)

// TestPOLL4_a_payer_that_asks_for_patience_and_names_no_time_is_asked_less_and_less: a server may end the export of a client that
// goes on asking.
func TestPOLL4_a_payer_that_asks_for_patience_and_names_no_time_is_asked_less_and_less(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(http.ResponseWriter){
		"429": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"429, Retry-After: 0": func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"500, a passing error": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"transient"}]}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := newPayer(t, func(c *config.Payer) { c.Limits.PollMin, c.Limits.PollMax = 2*time.Second, time.Minute })
			p.onFile = onePatient
			var mu sync.Mutex
			var polls []time.Time
			p.onStatus = func(w http.ResponseWriter, _ string) bool {
				mu.Lock()
				defer mu.Unlock()
				polls = append(polls, time.Now())
				if len(polls) > 3 {
					return true
				}
				refuse(w)
				return false
			}
			e := newEngine(t, s, Options{}, p)
			work(t, e)
			if _, err := e.Start(t.Context(), "p", RunOptions{}); err != nil {
				t.Fatal(err)
			}
			wait(t, "the publish", func() bool {
				return number(t, s, `SELECT count(*) FROM ingest.export WHERE state = 'published'`) == 1
			})
			mu.Lock()
			defer mu.Unlock()
			wantApart(t, "poll", polls, 1900*time.Millisecond, 3100*time.Millisecond, 6300*time.Millisecond) // 2, 4, 8 s less a fifth
		})
	}
}

// TestFILE10_a_host_that_refuses_and_names_no_time_is_asked_less_and_less: many count the requests that they refuse.
func TestFILE10_a_host_that_refuses_and_names_no_time_is_asked_less_and_less(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	var mu sync.Mutex
	var asked []time.Time
	p.onFile = func(w http.ResponseWriter) {
		mu.Lock()
		defer mu.Unlock()
		if asked = append(asked, time.Now()); len(asked) <= 3 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		onePatient(w)
	}
	e := newEngine(t, s, Options{}, p)
	work(t, e)
	if _, err := e.Start(t.Context(), "p", RunOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "the publish", func() bool {
		return number(t, s, `SELECT count(*) FROM ingest.export WHERE state = 'published'`) == 1
	})
	mu.Lock()
	defer mu.Unlock()
	wantApart(t, "request", asked, 1900*time.Millisecond, 3900*time.Millisecond, 7900*time.Millisecond)
}

// wantApart checks how long there was between each and the next.
func wantApart(t *testing.T, what string, at []time.Time, least ...time.Duration) {
	t.Helper()
	for i, want := range least {
		if got := at[i+1].Sub(at[i]); got < want {
			t.Errorf("%s %d came %s after the one before, want %s at least", what, i+2, got, want)
		}
	}
}

// TestPOLL9_no_patience_outlasts_the_exports_time: a date far ahead, or of a clock that is wrong, would keep the payer's schedule
// waiting for as long.
func TestPOLL9_no_patience_outlasts_the_exports_time(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := newPayer(t, func(c *config.Payer) { c.Export.Timeout = 4 * time.Second })
			p.onStatus = func(w http.ResponseWriter, _ string) bool {
				w.Header().Set("Retry-After", "7200")
				w.WriteHeader(status)
				return false
			}
			e := newEngine(t, s, Options{}, p)
			work(t, e)
			if _, err := e.Start(t.Context(), "p", RunOptions{}); err != nil {
				t.Fatal(err)
			}
			wait(t, "the end of the export's time", func() bool {
				return number(t, s, `SELECT count(*) FROM ingest.export WHERE state = 'failed' AND error_code = 'export_timeout'`) == 1
			})
		})
	}
}
