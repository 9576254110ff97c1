package ops

import (
	"log/slog"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// MetricsOptions are what Metrics need.
type MetricsOptions struct {
	Store *store.Store
	// Config returns the configuration that is in use.
	Config  func() *config.Config
	Version string
	Logger  *slog.Logger
}

// Metrics are the metrics of one instance, under the prefix ingestd_: docs/metrics.md lists them. It is a scheduler.Observer: what
// happens in this process is counted as it happens, and what the whole fleet shares is read from the database.
//
// Labels hold names of the configuration and words of fixed lists, never what a payer says.
type Metrics struct {
	options  MetricsOptions
	registry *prometheus.Registry

	exports     *prometheus.CounterVec
	rows        *prometheus.CounterVec
	lines       *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	wireBytes   *prometheus.CounterVec
	copied      *prometheus.CounterVec
	copying     *prometheus.CounterVec
	jobFailures *prometheus.CounterVec
	notified    *prometheus.CounterVec
	pruned      *prometheus.CounterVec
	pruneFailed prometheus.Counter
	chunks      prometheus.Histogram
	http        *httpMetrics
	reload      *reloadMetrics
}

// The results of an export, and what may become of its rows.
var (
	exportResults = []string{string(store.StatePublished), string(store.StateFailed), string(store.StateHeld)}
	rowOutcomes   = []string{"inserted", "updated", "unchanged", "superseded", "deleted", "ghost", "quarantined"}
)

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// NewMetrics returns metrics that know of the payers of the moment.
func NewMetrics(o MetricsOptions) *Metrics {
	m := &Metrics{
		options: o, registry: prometheus.NewRegistry(),
		exports:     counterVec("ingestd_exports_total", "Exports that ended on this instance, by result.", "payer", "result"),
		rows:        counterVec("ingestd_rows_total", "Rows of exports that were published by this instance, by what became of them.", "payer", "outcome"),
		lines:       counterVec("ingestd_lines_total", "Lines that this instance staged, found unchanged or quarantined.", "payer", "outcome"),
		bytes:       counterVec("ingestd_decompressed_bytes_total", "Bytes of files that this instance committed, decompressed.", "payer"),
		wireBytes:   counterVec("ingestd_wire_bytes_total", "Bytes of files that this instance received, as they were transferred.", "payer"),
		copied:      counterVec("ingestd_copy_bytes_total", "Decompressed bytes of the chunks of which ingestd_copy_seconds_total is the time.", "payer"),
		copying:     counterVec("ingestd_copy_seconds_total", "Time in which chunks were copied to Postgres and committed.", "payer"),
		jobFailures: counterVec("ingestd_job_failures_total", "Failed attempts of jobs on this instance, by the code of the failure.", "payer", "job", "code"),
		notified:    counterVec("ingestd_notifications_total", "Attempts of this instance to deliver a notification, by target and result.", "target", "result"),
		pruned:      counterVec("ingestd_pruned_rows_total", "Rows that this instance deleted because they are kept no longer, by table.", "table"),
		pruneFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestd_prune_failures_total", Help: "Rounds in which this instance could not delete what is kept no longer.",
		}),
		chunks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ingestd_chunk_duration_seconds", Help: "How long a chunk took to copy and commit.",
			Buckets: []float64{0.01, 0.05, 0.25, 1, 5, 30},
		}),
		http: newHTTPMetrics(),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ingestd_build_info", Help: "1, with the version of this binary.",
		ConstLabels: prometheus.Labels{"version": o.Version, "goversion": runtime.Version()},
	})
	build.Set(1)
	for _, table := range store.PrunedTables() {
		m.pruned.WithLabelValues(table)
	}
	m.reload = newReloadMetrics(m.registry)
	m.registry.MustRegister(m.exports, m.rows, m.lines, m.bytes, m.wireBytes, m.copied, m.copying, m.jobFailures, m.notified, m.pruned, m.pruneFailed, m.chunks, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newFleetCollector(o), certificateCollector{config: o.Config})
	if o.Store != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ingestd_audit_failures_total", Help: "Changes of this instance that were undone because the audit event could not be written.",
		}, func() float64 { return float64(o.Store.AuditFailures()) }))
	}
	m.http.register(m.registry)
	return m
}

// Registry is where further metrics of this instance are registered.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// ChunkStaged implements scheduler.Observer.
func (m *Metrics) ChunkStaged(payer string, c store.Chunk) {
	m.lines.WithLabelValues(payer, "staged").Add(float64(c.Staged))
	m.lines.WithLabelValues(payer, "unchanged").Add(float64(c.Unchanged))
	m.lines.WithLabelValues(payer, "quarantined").Add(float64(c.Quarantined))
	m.bytes.WithLabelValues(payer).Add(float64(c.Bytes))
	m.chunks.Observe(c.Took.Seconds())
	if c.Staged > 0 {
		m.copied.WithLabelValues(payer).Add(float64(c.Bytes))
		m.copying.WithLabelValues(payer).Add(c.Took.Seconds())
	}
}

// FileRead implements scheduler.Observer.
func (m *Metrics) FileRead(payer string, wireBytes int64) {
	m.wireBytes.WithLabelValues(payer).Add(float64(wireBytes))
}

// ExportEnded implements scheduler.Observer.
func (m *Metrics) ExportEnded(payer string, e store.Export) {
	m.exports.WithLabelValues(payer, string(e.State)).Inc()
	if e.State != store.StatePublished {
		return
	}
	for outcome, n := range map[string]int64{
		"inserted": e.Inserted, "updated": e.Updated, "unchanged": e.Unchanged, "superseded": e.Superseded,
		"deleted": e.Deleted, "ghost": e.Ghosts, "quarantined": e.Quarantined,
	} {
		m.rows.WithLabelValues(payer, outcome).Add(float64(n))
	}
}

// JobFailed implements scheduler.Observer.
func (m *Metrics) JobFailed(payer, job, code string) {
	m.jobFailures.WithLabelValues(payer, job, scheduler.KnownCode(code)).Inc()
}

// Notified implements scheduler.Observer.
func (m *Metrics) Notified(target, result string) {
	m.notified.WithLabelValues(target, result).Inc()
}

// PruneFailed implements scheduler.Observer.
func (m *Metrics) PruneFailed() { m.pruneFailed.Inc() }

// Pruned implements scheduler.Observer.
func (m *Metrics) Pruned(table string, rows int64) {
	m.pruned.WithLabelValues(table).Add(float64(rows))
}
