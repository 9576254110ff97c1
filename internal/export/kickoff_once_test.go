package export

import (
	"net/http"
	"strings"
	"testing"
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
