package export

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bomb is a start and as many times a MiB of c, compressed: a thousandth of that. Each is a member of its own, so that the test compresses one.
func bomb(t *testing.T, start, c string, times int) string {
	t.Helper()
	return zip(t, start) + strings.Repeat(zip(t, strings.Repeat(c, 1<<20)), times)
}

//nolint:paralleltest // it measures what the process allocates
func TestClient_bounds_what_a_small_body_becomes_when_decompressed(t *testing.T) {
	const most = 48 << 20
	data := bomb(t, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","diagnostics":"`, "x", 256)
	serve := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, data)
		}
	}
	for _, test := range []struct {
		name, code string
		action     Action
		status     int
	}{
		{"a manifest", CodeManifestTooLarge, ActionFail, http.StatusOK},
		{"an error", CodePayerError, ActionRetry, http.StatusInternalServerError},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPayer(t, serve(test.status))
			var err error
			got := allocated(func() { _, err = p.client.Poll(t.Context(), p.URL+"/fhir/jobs/1") })
			wantError(t, err, test.code, test.action)
			if got > most {
				t.Errorf("allocated %d MiB for %d KiB, want at most %d", got>>20, len(data)>>10, most>>20)
			}
		})
	}
}

// trickle sends a byte every so often until the client has gone.
func trickle(w http.ResponseWriter, r *http.Request, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if _, err := w.Write([]byte(" ")); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// slow is a body of bytes that come one by one, or some at a time, every so often, by the clock of the test.
type slow struct {
	every time.Duration
	some  int
}

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(s.every)
	return min(s.some, len(p)), nil
}

func (slow) Close() error { return nil }

func TestFILE9_a_payer_that_sends_a_byte_now_and_then_is_given_up(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	for _, test := range []struct {
		name   string
		body   slow
		reads  int
		isOver bool
	}{
		{"a byte twice a minute", slow{idle / 2, 1}, 100, true},
		{"as much as is asked for", slow{idle / 2, trickleBytes/(2*trickleIdles) + 1}, 100, false},
		{"a lot, seldom", slow{idle - time.Second, 64 << 10}, 100, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			body := newIdleReader(ctx, cancel, test.body, idle)
			defer body.Close()
			began := time.Now()
			var err error
			for range test.reads {
				if _, err = body.Read(make([]byte, 64<<10)); err != nil {
					break
				}
			}
			if over := errors.Is(err, errStalled); over != test.isOver || err != nil && !over {
				t.Errorf("%s: got %v after %s", test.name, err, time.Since(began))
			}
			if took := time.Since(began); test.isOver && took != trickleIdles*idle {
				t.Errorf("%s: given up after %s, want %s", test.name, took, trickleIdles*idle)
			}
		})
	}
}

func TestWithin_ends_a_body_that_never_ends(t *testing.T) {
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		trickle(w, r, time.Millisecond)
	}, func(o *Options) { o.IdleTimeout = time.Hour })
	response, _, err := p.client.do(t.Context(), call{phase: PhaseStatus, method: http.MethodGet, url: mustParse(t, p.URL+"/fhir/x")})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stop := within(response.Body, 50*time.Millisecond)
	defer stop()
	if _, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Error("got the end of an endless body")
	}
}

func TestRetryAfter_is_bounded_whatever_a_payer_asks_for(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, text := range []string{
		"2592000", "2592001", "25920000", "1e9", "1e300", "Inf", "9223372036854775807",
		now.Add(31 * 24 * time.Hour).Format(http.TimeFormat), "Fri, 31 Dec 9999 23:59:59 GMT",
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != maxRetryAfter {
			t.Errorf("%q: got %s, want %s", text, got, maxRetryAfter)
		}
	}
	if got := retryAfter(http.Header{"Retry-After": {"2591999"}}, now); got != maxRetryAfter-time.Second {
		t.Errorf("got %s, want a second less than %s", got, maxRetryAfter)
	}
}
