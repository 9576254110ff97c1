package scheduler

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"ingestd/internal/export"
	"ingestd/internal/store"
)

func TestFILE10_a_host_that_asks_one_payer_for_patience_is_left_alone_by_all(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	var mu sync.Mutex
	var asked []time.Time
	p.onFile = func(w http.ResponseWriter) {
		mu.Lock()
		asked = append(asked, time.Now())
		first := len(asked) == 1
		mu.Unlock()
		if first {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		onePatient(w)
	}
	other := &payer{Payer: p.Payer}
	other.Config.Name = "q"
	var err error
	if other.Client, err = export.New(export.Options{
		Payer: other.Config, Authorized: http.DefaultTransport, Plain: http.DefaultTransport,
	}); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, s, Options{}, p, other)
	work(t, e)
	first, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the refusal", func() bool { return number(t, s, `SELECT count(*) FROM ingest.host`) == 1 })
	second, err := e.Start(t.Context(), "q", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int64{first, second} {
		wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 3 {
		t.Fatalf("the file was asked for %d times, want 3", len(asked))
	}
	for _, at := range asked[1:] {
		if pause := at.Sub(asked[0]); pause < 1900*time.Millisecond {
			t.Errorf("asked again after %s, want the 2 s that it asked for", pause)
		}
	}
}

func TestHostOf_is_the_origin(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://files.example:8443/a?sig=x": "https://files.example:8443", "http://127.0.0.1/": "http://127.0.0.1", "%zz": "",
	} {
		if got := hostOf(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if got := hostOf(server.URL + "/file"); got != server.URL {
		t.Errorf("got %s, want %s", got, server.URL)
	}
}
