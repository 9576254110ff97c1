package ops

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"ingestd/internal/config"
	"ingestd/internal/outbound"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// newMetrics are the metrics of an instance as the daemon has them, with those of its token manager.
func newMetrics(t *testing.T, s *store.Store, c func() *config.Config) *Metrics {
	t.Helper()
	m := NewMetrics(MetricsOptions{Store: s, Config: c, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	smartauth.NewManager(smartauth.ManagerOptions{Logger: slog.New(slog.DiscardHandler), Metrics: m.Registry()})
	m.ConfigInUse("digest", time.Now())
	return m
}

// busy lets the metrics count a bit of everything for each payer.
func busy(m *Metrics, payers ...string) {
	for _, payer := range payers {
		m.ChunkStaged(payer, store.Chunk{Lines: 3, Bytes: 300, Staged: 2, Unchanged: 1, Quarantined: 1, Took: time.Second})
		m.FileRead(payer, 100)
		m.ExportEnded(payer, store.Export{State: store.StatePublished, Ledger: store.Ledger{Inserted: 2, Ghosts: 1}})
		m.JobFailed(payer, "load_file", "file_gone")
		exchanged := m.Exchanged(payer)
		exchanged(outbound.Exchange{Endpoint: outbound.EndpointFile, Status: 200, Took: time.Second, CertificateExpiry: time.Now()})
		exchanged(outbound.Exchange{Endpoint: outbound.EndpointStatus, Failure: outbound.CodeReset, Repeated: true})
		m.ClientCertificate(payer, time.Now())
	}
	m.Notified("hook", "failed")
	m.Pruned("export_file", 100)
	m.PruneFailed()
}

func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			values[family.GetName()+labelsOf(metric)] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() +
				float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func labelsOf(metric *dto.Metric) string {
	var labels []string
	for _, label := range metric.GetLabel() {
		labels = append(labels, label.GetName()+"="+label.GetValue())
	}
	return "{" + strings.Join(labels, ",") + "}"
}

func namesOf(values map[string]float64, containing string) []string {
	var names []string
	for name := range values {
		if strings.Contains(name, containing) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func fleetOf(payers ...string) func() *config.Config {
	c := &config.Config{Notify: []config.Notify{{Name: "hook"}}}
	for _, name := range payers {
		c.Payers = append(c.Payers, config.Payer{Name: name, Enabled: true, FreshnessSLO: time.Hour})
	}
	return func() *config.Config { return c }
}

func TestMetrics_follow_the_conventions_of_Prometheus(t *testing.T) {
	t.Parallel()
	d := newDirect(t)
	execute(t, d.Store, `INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_at, finished_at)
		VALUES ('p', 'published', 'full', 'manual', '', now(), now()), ('p', 'polling', 'full', 'manual', '', NULL, NULL)`)
	m := newMetrics(t, d.Store, fleetOf("p"))
	busy(m, "p")
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint says %v, %v", problems, err)
	}
	for _, family := range families {
		name := family.GetName()
		if !regexp.MustCompile(`^(ingestd|go|process)_[a-z0-9_]+$`).MatchString(name) || len(family.GetHelp()) < 10 {
			t.Errorf("%s: %q", name, family.GetHelp())
		}
	}
}

var described = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]+)", unit: "[^"]*", constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// declared are all metrics of our own that can ever be, each as its row in docs/metrics.md begins and ends.
func declared(t *testing.T, registry *prometheus.Registry) map[string]string {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	var collected sync.WaitGroup
	rows := make(map[string]string)
	collected.Go(func() {
		for desc := range descs {
			match := described.FindStringSubmatch(desc.String())
			if match == nil {
				t.Errorf("cannot read %s", desc)
				continue
			}
			var labels []string
			for label := range strings.SplitSeq(match[3]+","+match[4], ",") {
				if name, _, _ := strings.Cut(label, "="); name != "" {
					labels = append(labels, "`"+name+"`")
				}
			}
			if strings.HasPrefix(match[1], "ingestd_") {
				rows[match[1]] = fmt.Sprintf("| `%s` | %s | %s |", match[1], strings.Join(labels, " "), match[2])
			}
		}
	})
	registry.Describe(descs)
	close(descs)
	collected.Wait()
	return rows
}

func TestMetrics_are_those_of_the_documentation(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, newDirect(t).Store, fleetOf("p"))
	data, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for line := range strings.SplitSeq(string(data), "\n") {
		if match := regexp.MustCompile("^\\| `(ingestd_[a-z_]+)` \\|").FindStringSubmatch(line); match != nil {
			documented[match[1]] = line
		}
	}
	rows := declared(t, m.Registry())
	if len(rows) < 40 {
		t.Fatalf("the code declares %d metrics only", len(rows))
	}
	for name, row := range rows {
		if documented[name] != row {
			t.Errorf("docs/metrics.md has\n%q, want\n%s", documented[name], row)
		}
	}
	for name := range documented {
		if rows[name] == "" {
			t.Errorf("docs/metrics.md has %s, which the code has not", name)
		}
	}
}

func TestMetrics_of_a_removed_payer_and_target_disappear(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := fleetOf("p", "q")()
	m := newMetrics(t, newDirect(t).Store, func() *config.Config {
		mu.Lock()
		defer mu.Unlock()
		return now
	})
	busy(m, "p", "q")
	before := gather(t, m)
	if len(namesOf(before, "payer=q")) < 30 || len(namesOf(before, "target=hook")) != 3 {
		t.Fatalf("too few series to lose: %v", namesOf(before, "payer=q"))
	}
	mu.Lock()
	now = fleetOf("p")()
	now.Notify = nil
	mu.Unlock()
	busy(m, "q") // its last export goes on
	after := gather(t, m)
	if left := append(namesOf(after, "payer=q"), namesOf(after, "target=")...); len(left) > 0 {
		t.Errorf("left of what was removed: %v", left)
	}
	if got, want := len(namesOf(after, "payer=p")), len(namesOf(before, "payer=p")); got != want {
		t.Errorf("of the other payer %d series are left, want %d", got, want)
	}
}

// What a payer can choose: HTTP statuses, OAuth error codes, hosts, paths, resource types. None may become a label.
func TestMetrics_do_not_let_a_payer_create_series(t *testing.T) {
	t.Parallel()
	m := newMetrics(t, newDirect(t).Store, fleetOf("p"))
	var status int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	transport, err := outbound.New(outbound.Options{FHIRURL: server.URL, Observer: m.Exchanged("p")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	attack := func(round int) {
		for status = 200; status < 1000; status += 7 {
			for _, endpoint := range outbound.Endpoints() {
				request, err := http.NewRequestWithContext(outbound.For(t.Context(), endpoint), http.MethodGet,
					fmt.Sprintf("%s/r%d/%d?x=%d", server.URL, round, status, status), nil)
				if err != nil {
					t.Fatal(err)
				}
				if status == 304 || status == 204 {
					continue
				}
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			m.JobFailed("p", "start_export", fmt.Sprintf("auth_made_up_%d_%d", round, status))
			m.JobFailed("p", "start_export", fmt.Sprintf("made up %d %d", round, status))
		}
	}
	attack(1)
	first := gather(t, m)
	for name := range first {
		if strings.Contains(name, "made") || strings.Contains(name, "127.0.0.1") || strings.Contains(name, "code=207x") || strings.Contains(name, "code=998") {
			t.Errorf("a payer named %s", name)
		}
	}
	attack(2)
	second := gather(t, m)
	for name := range second {
		if _, ok := first[name]; !ok {
			t.Errorf("the second round created %s", name)
		}
	}
	if first["ingestd_job_failures_total{code=auth_other,job=start_export,payer=p}"] == 0 ||
		first["ingestd_http_requests_total{code=other,endpoint=file,payer=p}"] == 0 {
		t.Errorf("what was made up is not counted as other: %v", namesOf(first, "other"))
	}
}

func TestKnownCode_keeps_the_codes_of_the_list(t *testing.T) {
	t.Parallel()
	for _, code := range scheduler.Codes() {
		if got := scheduler.KnownCode(code); got != code {
			t.Errorf("%s became %s", code, got)
		}
	}
	if len(scheduler.Codes()) < 80 {
		t.Errorf("the list has %d codes only", len(scheduler.Codes()))
	}
}

// deafProxy passes connections on to Postgres until it goes deaf: then it takes what comes and answers nothing, as a host does
// that has lost its network.
type deafProxy struct {
	listener net.Listener
	deaf     chan struct{}
	once     sync.Once
}

func newDeafProxy(t *testing.T, network, address string) *deafProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &deafProxy{listener: listener, deaf: make(chan struct{})}
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		listener.Close()
		group.Wait()
	})
	pass := func(to, from net.Conn) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			select {
			case <-p.deaf:
				if err == nil {
					continue
				}
			default:
			}
			if err != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer client.Close()
				server, err := net.Dial(network, address)
				if err != nil {
					return
				}
				defer server.Close()
				stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
				defer stop()
				var both sync.WaitGroup
				both.Go(func() { pass(server, client); server.Close(); client.Close() })
				both.Go(func() { pass(client, server); server.Close(); client.Close() })
				both.Wait()
			})
		}
	})
	return p
}

func (p *deafProxy) goDeaf() { p.once.Do(func() { close(p.deaf) }) }

func TestMetrics_are_scraped_in_time_although_Postgres_does_not_answer(t *testing.T) {
	t.Parallel()
	url := testpg.New(t, migrate)
	address, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	network, target := pgconn.NetworkAddress(address.Host, address.Port)
	proxy := newDeafProxy(t, network, target)
	through := fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", address.User, address.Password, proxy.listener.Addr(), address.Database)
	s, err := store.Open(t.Context(), store.Options{URL: through, MaxConnections: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	execute(t, s, `INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_at, finished_at)
		VALUES ('p', 'published', 'full', 'manual', '', now() - interval '1 h', now())`)
	m := NewMetrics(MetricsOptions{Store: s, Config: fleetOf("p"), Version: "test", Logger: slog.New(slog.DiscardHandler)})
	fleet := newFleetCollector(m.options)
	fleet.timeout, fleet.life = 30*time.Second, time.Nanosecond
	registry := prometheus.NewRegistry()
	registry.MustRegister(fleet)
	first := gather(t, registry)
	if first["ingestd_database_up{}"] != 1 || first["ingestd_data_freshness_seconds{payer=p}"] < 3600 {
		t.Fatalf("with Postgres: %v", first)
	}
	proxy.goDeaf()
	fleet.timeout = 300 * time.Millisecond
	done := make(chan map[string]float64, 1)
	go func() { done <- gather(t, registry) }()
	select {
	case second := <-done:
		if second["ingestd_database_up{}"] != 0 {
			t.Errorf("without Postgres: ingestd_database_up is %g", second["ingestd_database_up{}"])
		}
		if second["ingestd_data_freshness_seconds{payer=p}"] < first["ingestd_data_freshness_seconds{payer=p}"] {
			t.Errorf("the data do not age: %v", namesOf(second, "freshness"))
		}
		if queues := namesOf(second, "queue"); len(queues) > 0 {
			t.Errorf("it tells of queues that it does not know: %v", queues)
		}
	case <-time.After(time.Minute):
		t.Fatal("the scrape hangs")
	}
}

func TestMetrics_ask_the_database_once_for_many_scrapes(t *testing.T) {
	t.Parallel()
	d := newDirect(t)
	fleet := newFleetCollector(MetricsOptions{Store: d.Store, Config: fleetOf("p"), Logger: slog.New(slog.DiscardHandler)})
	fleet.life, fleet.timeout = time.Hour, time.Minute
	registry := prometheus.NewRegistry()
	registry.MustRegister(fleet)
	before := gather(t, registry)["ingestd_database_last_answer_timestamp_seconds{}"]
	if before == 0 {
		t.Fatal("the database did not answer")
	}
	for range 20 {
		if got := gather(t, registry)["ingestd_database_last_answer_timestamp_seconds{}"]; got != before {
			t.Fatalf("it was asked again: %f, then %f", before, got)
		}
	}
}

func TestMetrics_begin_at_zero_for_what_is_certain_to_come(t *testing.T) {
	t.Parallel()
	values := gather(t, newMetrics(t, newDirect(t).Store, fleetOf("p")))
	for _, name := range []string{
		"ingestd_exports_total{payer=p,result=failed}", "ingestd_rows_total{outcome=ghost,payer=p}",
		"ingestd_notifications_total{result=given_up,target=hook}", "ingestd_audit_failures_total{}",
		"ingestd_pruned_rows_total{table=export_file}", "ingestd_prune_failures_total{}",
		"ingestd_queue_oldest_due_job_age_seconds{queue=bulk}",
	} {
		if value, ok := values[name]; !ok || value != 0 {
			t.Errorf("%s: got %g, there %t; want 0", name, value, ok)
		}
	}
}
