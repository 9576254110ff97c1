package export

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestKICK7_aLostAnswerOnAConnectionThatWasUsedBeforeIsNotRepeated guards against net/http itself, which sends a GET once more
// where a connection that it used before is closed without an answer: a payer that took the first one would export twice.
func TestKICK7_aLostAnswerOnAConnectionThatWasUsedBeforeIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"get", "post"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/$export") {
					w.WriteHeader(http.StatusAccepted)
					return
				}
				conn, _, err := http.NewResponseController(w).Hijack() // the request was read: the export may have begun
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close()
			}, func(o *Options) { o.Payer.Export.Method = method })
			if _, err := p.client.Poll(t.Context(), p.URL+"/status"); err != nil { // leaves a connection behind
				t.Fatal(err)
			}
			_, err := p.client.KickOff(t.Context(), KickOffRequest{})
			if e := wantError(t, err, CodeUnanswered, ActionRetry); !e.MaybeStarted {
				t.Error("got MaybeStarted false, want true")
			}
			if got := len(p.seen()) - 1; got != 1 {
				t.Errorf("the payer got %d kick-offs, want 1", got)
			}
		})
	}
}

// TestKICK6_an_acceptance_whose_body_never_ends_is_one: until the status URL is stored, the export is lost with the process.
func TestKICK6_an_acceptance_whose_body_never_ends_is_one(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	p := newPayer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Location", "/fhir/status/1")
		w.WriteHeader(http.StatusAccepted)
		_ = http.NewResponseController(w).Flush()
		<-over
	})
	began := time.Now()
	kickOff, err := p.client.KickOff(t.Context(), KickOffRequest{})
	if took := time.Since(began); err != nil || kickOff.StatusURL != p.URL+"/fhir/status/1" || took > time.Minute {
		t.Errorf("got %+v, %v after %s, want an acceptance long before the body's %s are over", kickOff, err, took, defaultIdleTimeout)
	}
	close(over)
}

// TestKICK7_a_gateway_that_gave_up_waiting_may_have_passed_the_kick_off_on: the payer is slow to accept, and exports.
func TestKICK7_a_gateway_that_gave_up_waiting_may_have_passed_the_kick_off_on(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{500: false, 502: true, 503: false, 504: true, 524: true} {
		p := newPayer(t, answer(status, map[string]string{"Content-Type": "text/html"}, "<html>"))
		_, err := p.client.KickOff(t.Context(), KickOffRequest{})
		if e := wantError(t, err, CodePayerError, ActionRetry); e.MaybeStarted != want {
			t.Errorf("%d: got MaybeStarted %t, want %t", status, e.MaybeStarted, want)
		}
	}
}
