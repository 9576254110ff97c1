package scheduler

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ingestd/internal/store"
)

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSettle_tells_once_that_an_export_waits_however_often_it_looks(t *testing.T) {
	t.Parallel()
	s, log := newStore(t), &logBuffer{}
	p := newPayer(t, nil)
	p.onKickOff = func(w http.ResponseWriter, n int) bool {
		if n > 4 {
			return true
		}
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	}
	p.onFile = func(w http.ResponseWriter) { fmt.Fprint(w, patients(1)[0]) }
	e := newEngine(t, s, Options{Logger: slog.New(slog.NewTextHandler(log, nil))}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	if n := strings.Count(log.String(), "payer asks to wait"); n != 1 {
		t.Errorf("%d lines tell that the payer asks to wait, want one:\n%s", n, log)
	}
}

func TestWaits_are_news_when_what_is_waited_for_changes_and_every_ten_minutes(t *testing.T) {
	t.Parallel()
	var w waits
	now := time.Now()
	for i, step := range []struct {
		export int64
		code   string
		after  time.Duration
		want   bool
	}{
		{1, "a", 0, true},
		{1, "a", time.Minute, false},
		{1, "b", time.Minute, true},
		{2, "b", time.Minute, true},
		{2, "b", 9 * time.Minute, false},
		{2, "b", 2 * time.Minute, true},
	} {
		now = now.Add(step.after)
		if got := w.news(store.Export{ID: step.export, Payer: "p"}, step.code, now); got != step.want {
			t.Errorf("step %d: news %v, want %v", i, got, step.want)
		}
	}
	if waitsFor(codeClientBusy) == waitsFor("payer_throttled") {
		t.Error("our own waiting is called a wish of the payer's")
	}
}
