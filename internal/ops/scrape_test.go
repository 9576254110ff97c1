//go:build faults

package ops

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// A scrape of a fleet of 500 payers is quick, and its number of series does not grow with what happens to them.
func TestMetrics_of_500_payers_are_scraped_quickly_during_a_load_and_are_bounded(t *testing.T) {
	t.Parallel()
	const (
		fleet     = 500
		perPayer  = 40 // series
		permitted = 100 * time.Millisecond
	)
	s := newDirect(t).Store
	payers := make([]config.Payer, fleet)
	for i := range payers {
		payers[i] = config.Payer{Name: fmt.Sprintf("payer-%03d", i), Enabled: true, FreshnessSLO: time.Hour}
	}
	execute(t, s, `
		INSERT INTO ingest.export (payer, state, kind, trigger, series, queue, created_at, finished_at, transaction_at)
		SELECT 'payer-' || lpad(p::text, 3, '0'), CASE WHEN n = 1 THEN 'loading' ELSE 'published' END, 'full', 'schedule', 's', '',
			now() - n * interval '1 day', CASE WHEN n > 1 THEN now() - n * interval '1 day' END, now() - n * interval '1 day'
		FROM generate_series(0, 499) AS p, generate_series(1, 10) AS n`)
	m := NewMetrics(MetricsOptions{
		Store: s, Config: func() *config.Config { return &config.Config{Payers: payers} }, Version: "test", Logger: slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(NewServer(ServerOptions{
		Store: s, Config: func() (*config.Config, time.Time) { return &config.Config{Payers: payers}, time.Time{} },
		Metrics: m, Guard: NewGuard(""), Logger: slog.New(slog.DiscardHandler),
	}))
	defer server.Close()

	// A load goes on meanwhile.
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			p := payers[i%fleet].Name
			m.ChunkStaged(p, store.Chunk{Lines: 10, Bytes: 1000, Staged: 9, Quarantined: 1, Took: time.Millisecond})
			m.ExportEnded(p, store.Export{State: store.StatePublished})
			m.JobFailed(p, "load_file", "http_5xx")
			time.Sleep(time.Millisecond) // a thousand chunks a second
		}
	})
	defer load.Wait()
	defer cancel()

	scrape := func() (string, time.Duration) {
		t.Helper()
		began := time.Now()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("HTTP %d, %v", response.StatusCode, err)
		}
		return string(body), time.Since(began)
	}
	// The best of some, and what a processor of one's own would make of it, because the machine may have other work.
	best := time.Hour
	var text string
	for deadline := time.Now().Add(time.Minute); best > permitted && time.Now().Before(deadline); {
		var took time.Duration
		text, took = scrape()
		best = min(best, time.Duration(float64(took)/contention(t)))
	}
	series := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	t.Logf("%d series of %d payers in %s", series, fleet, best.Round(time.Millisecond))
	if best > permitted {
		t.Errorf("a scrape took %s, want %s", best, permitted)
	}
	if !strings.Contains(text, `payer="payer-499"`) || series > fleet*perPayer {
		t.Errorf("%d series, want at most %d a payer", series, perPayer)
	}
}

// contention is how much longer than it computes a thread takes now, because others want the processors as well; at least 1.
func contention(t *testing.T) float64 {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	const enough = 50 * time.Millisecond
	began, before := time.Now(), used()
	for used()-before < enough { // which is the work
	}
	return max(1, float64(time.Since(began))/float64(used()-before))
}

func TestServer_closes_connections_whose_headers_do_not_come(t *testing.T) {
	t.Parallel()
	db := newDirect(t).Store
	s := NewServer(ServerOptions{
		Store: db, Guard: NewGuard(""), Logger: slog.New(slog.DiscardHandler),
		Config: func() (*config.Config, time.Time) { return &config.Config{}, time.Time{} },
		Metrics: NewMetrics(MetricsOptions{
			Store: db, Config: func() *config.Config { return &config.Config{} }, Version: "test", Logger: slog.New(slog.DiscardHandler),
		}),
	})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		_ = response.Body.Close()
		if response.StatusCode < http.StatusBadRequest {
			t.Errorf("half a header was answered with HTTP %d", response.StatusCode)
		}
	} else if strings.Contains(err.Error(), "timeout") {
		t.Error("the connection was kept open for a minute")
	}
}
