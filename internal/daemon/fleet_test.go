package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
	"ingestd/internal/smartauth"
	"ingestd/internal/testpg"
)

func TestDaemon_kicks_each_of_many_payers_that_are_due_at_once_off_once(t *testing.T) {
	f := dueAtOnce(t, 150)
	t.Logf("%+v", f)
}

// `go test -run - -bench 1000_payers -benchtime 1x ./internal/daemon` measures what a fleet of one instance does when a
// thousand payers are due in the same second.
func BenchmarkDaemon_kicks_1000_payers_off(b *testing.B) {
	for range b.N {
		f := dueAtOnce(b, 1000)
		b.ReportMetric(f.took.Seconds(), "s/all")
		b.ReportMetric(float64(f.connections), "connections")
		b.ReportMetric(f.heapMiB, "MiB-more")
		b.ReportMetric(float64(f.goroutines), "goroutines-more")
	}
	b.ReportMetric(0, "ns/op")
}

// figures are what a run of many payers took.
type figures struct {
	took        time.Duration // from the start of the daemon to the last kick-off
	connections int           // to the database, at most
	heapMiB     float64       // how much the heap grew, at most; the simulated payers are in it
	goroutines  int           // how many more there were, at most; likewise
}

// dueAtOnce starts a daemon with so many payers that are all due, waits until all are kicked off, and fails where one was kicked
// off twice, or where more connections were used than are configured.
func dueAtOnce(tb testing.TB, payers int) (f figures) {
	tb.Helper()
	const connections = 10
	file := filepath.Join(tb.TempDir(), "key.pem")
	key, err := smartauth.GenerateKey("ES384", "k")
	if err != nil {
		tb.Fatal(err)
	}
	if err := smartauth.WriteKeyFile(file, key); err != nil {
		tb.Fatal(err)
	}
	set, err := smartauth.NewJWKS(key)
	if err != nil {
		tb.Fatal(err)
	}
	asked := &kickOffCounter{asked: make(map[string]int)}
	options := payersim.Options{Patients: 2}
	var text strings.Builder
	for i := range payers {
		options.Clients = append(options.Clients, payersim.Client{ID: fmt.Sprintf("c%d", i), JWKS: set})
		options.Groups = append(options.Groups, fmt.Sprintf("g%d", i))
		fmt.Fprintf(&text, "  - {name: p%d, fhir_url: SERVER, auth: {client_id: c%d}, export: {level: group, group_id: g%d, types: [Patient]}}\n", i, i, i)
	}
	simulator, err := payersim.New(options)
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(asked.count(simulator))
	defer func() {
		server.CloseClientConnections()
		server.Close()
		if err := simulator.Close(); err != nil {
			tb.Error(err)
		}
	}()
	url := testpg.New(tb, nil)
	c := parse(tb, `
database: {url: %q, max_connections: %d}
admin: {listen: ""}
keys: [{id: k, private_key: "file:%s"}]
defaults: {schedule: "@every 1h", limits: {poll_min: 30s}}
payers:
%s`, url, connections, file, strings.ReplaceAll(text.String(), "SERVER", server.URL+"/fhir"))
	d, err := Open(tb.Context(), Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	defer d.Close(tb.Context())
	watcher, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = watcher.Close(tb.Context()) }()
	number := func(sql string) (n int) {
		tb.Helper()
		if err := watcher.QueryRow(tb.Context(), sql).Scan(&n); err != nil {
			tb.Fatal(err)
		}
		return n
	}
	number(fmt.Sprintf(`WITH tick AS (INSERT INTO ingest.tick (payer, schedule, due_at, outcome)
		SELECT 'p' || n, 'schedule', now() - interval '2 hours', 'registered' FROM generate_series(0, %d) AS n RETURNING 1)
		SELECT count(*) FROM tick`, payers-1))

	runtime.GC()
	before := liveMiB()
	goroutines, began := runtime.NumGoroutine(), time.Now()
	ctx, stop := context.WithCancel(tb.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for number(`SELECT count(*) FROM ingest.export WHERE kicked_off_at IS NOT NULL`) < payers {
		if time.Since(began) > 5*time.Minute {
			tb.Fatalf("%d of %d payers are kicked off", number(`SELECT count(*) FROM ingest.export WHERE kicked_off_at IS NOT NULL`), payers)
		}
		f.connections = max(f.connections, number(`SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'ingestd'`))
		f.heapMiB = max(f.heapMiB, liveMiB()-before)
		f.goroutines = max(f.goroutines, runtime.NumGoroutine()-goroutines)
		time.Sleep(50 * time.Millisecond) // bounded by the deadline
	}
	f.took = time.Since(began)
	stop()
	if err := <-done; err != nil {
		tb.Errorf("Run: %v", err)
	}
	if n := number(`SELECT count(*) FROM ingest.export`); n != payers {
		tb.Errorf("%d exports, want one for each of %d payers", n, payers)
	}
	if once, all := asked.once(); once != payers || all != payers {
		tb.Errorf("%d payers were asked, %d of them once; want each of %d once", all, once, payers)
	}
	if f.connections > connections {
		tb.Errorf("%d connections to the database, want %d at most", f.connections, connections)
	}
	if f.heapMiB > 256 {
		tb.Errorf("the heap grew by %.0f MiB", f.heapMiB)
	}
	return f
}

// liveMiB is what the last garbage collection has left in the heap.
func liveMiB() float64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return float64(sample[0].Value.Uint64()) / (1 << 20)
}

// kickOffCounter counts the kick-offs by their path.
type kickOffCounter struct {
	mu    sync.Mutex
	asked map[string]int
}

func (k *kickOffCounter) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/$export") {
			k.mu.Lock()
			k.asked[r.URL.Path]++
			k.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// once returns how many groups were asked for once, and how many at all.
func (k *kickOffCounter) once() (once, all int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.asked {
		if n == 1 {
			once++
		}
	}
	return once, len(k.asked)
}
