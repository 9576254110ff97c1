package ops

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

// Metrics are the metrics of one instance, under the prefix ingestd_. It is a scheduler.Observer: what happens in this
// process is counted as it happens, and what the whole fleet shares is read from the database at each scrape.
type Metrics struct {
	registry *prometheus.Registry

	exports     *prometheus.CounterVec
	rows        *prometheus.CounterVec
	lines       *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	jobFailures *prometheus.CounterVec
	notified    *prometheus.CounterVec
	chunks      prometheus.Histogram
	reload      *reloadMetrics
}

// NewMetrics returns metrics that know of the payers of the moment.
func NewMetrics(s *store.Store, payers func() []config.Payer, version string, logger *slog.Logger) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		exports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_exports_total", Help: "Exports that ended on this instance, by result.",
		}, []string{"payer", "result"}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_rows_total", Help: "Rows of exports that were published by this instance, by what became of them.",
		}, []string{"payer", "outcome"}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_lines_total", Help: "Lines that this instance staged, found unchanged or quarantined.",
		}, []string{"payer", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_bytes_total", Help: "Decompressed bytes of the files that this instance read.",
		}, []string{"payer"}),
		jobFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_job_failures_total", Help: "Failed attempts of jobs on this instance, by the code of the failure.",
		}, []string{"payer", "job", "code"}),
		notified: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_notifications_total", Help: "Attempts of this instance to deliver a notification, by target and result.",
		}, []string{"target", "result"}),
		chunks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ingestd_chunk_seconds", Help: "How long a chunk took to copy and commit.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ingestd_build_info", Help: "1, with the version of this binary.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.reload = newReloadMetrics(m.registry)
	m.registry.MustRegister(m.exports, m.rows, m.lines, m.bytes, m.jobFailures, m.notified, m.chunks, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&fleetCollector{store: s, payers: payers, logger: logger})
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
	m.jobFailures.WithLabelValues(payer, job, code).Inc()
}

// Notified implements scheduler.Observer.
func (m *Metrics) Notified(target, result string) {
	m.notified.WithLabelValues(target, result).Inc()
}

// fleetCollector reads the state of the payers from the database, so that every instance reports the same of them.
type fleetCollector struct {
	store  *store.Store
	payers func() []config.Payer
	logger *slog.Logger
}

var (
	freshnessDesc = prometheus.NewDesc("ingestd_data_freshness_seconds",
		"Age of the latest transactionTime that was published.", []string{"payer"}, nil)
	sloDesc = prometheus.NewDesc("ingestd_freshness_slo_seconds",
		"How long the payer may be without a publish before its data count as stale (freshness_slo).", []string{"payer"}, nil)
	staleDesc = prometheus.NewDesc("ingestd_payer_stale",
		"1 where nothing was published for longer than freshness_slo.", []string{"payer"}, nil)
	lastSuccessDesc = prometheus.NewDesc("ingestd_last_success_timestamp_seconds",
		"When an export was last published.", []string{"payer"}, nil)
	runningDesc = prometheus.NewDesc("ingestd_export_running",
		"1 while an export of the payer is in this phase.", []string{"payer", "phase"}, nil)
	mismatchDesc = prometheus.NewDesc("ingestd_config_mismatch",
		"1 where live instances have the payer configured differently, or some not at all.", []string{"payer"}, nil)
	instancesDesc = prometheus.NewDesc("ingestd_instances", "Instances that are alive.", nil, nil)
	upDesc        = prometheus.NewDesc("ingestd_database_up", "1 where the database answered this scrape.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *fleetCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{freshnessDesc, sloDesc, staleDesc, lastSuccessDesc, runningDesc, mismatchDesc, instancesDesc, upDesc} {
		descs <- desc
	}
}

// scrapeTimeout bounds what a scrape waits for the database.
const scrapeTimeout = 5 * time.Second

// Collect implements prometheus.Collector.
func (c *fleetCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	now := time.Now()
	states, err := Status(ctx, c.store, c.payers(), now)
	if err != nil {
		c.logger.WarnContext(ctx, "metrics: the database did not answer", "error", err)
		metrics <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 0)
		return
	}
	metrics <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 1)
	c.collectInstances(ctx, metrics)
	for _, s := range states {
		if s.FreshnessSeconds != nil {
			metrics <- prometheus.MustNewConstMetric(freshnessDesc, prometheus.GaugeValue, *s.FreshnessSeconds, s.Payer)
		}
		if s.FreshnessSLOSeconds > 0 {
			stale := 0.0
			if s.StaleSince != nil {
				stale = 1
			}
			metrics <- prometheus.MustNewConstMetric(sloDesc, prometheus.GaugeValue, s.FreshnessSLOSeconds, s.Payer)
			metrics <- prometheus.MustNewConstMetric(staleDesc, prometheus.GaugeValue, stale, s.Payer)
		}
		if s.LastSuccess != nil {
			metrics <- prometheus.MustNewConstMetric(lastSuccessDesc, prometheus.GaugeValue, float64(s.LastSuccess.UnixMilli())/1000, s.Payer)
		}
		for _, phase := range []store.State{
			StateWaiting, store.StateStarting, store.StatePolling, store.StateLoading, store.StatePublishing, store.StateHeld,
		} {
			value := 0.0
			if s.State == string(phase) {
				value = 1
			}
			metrics <- prometheus.MustNewConstMetric(runningDesc, prometheus.GaugeValue, value, s.Payer, string(phase))
		}
	}
}

// collectInstances tells how many instances there are, and of which payers their configurations differ.
func (c *fleetCollector) collectInstances(ctx context.Context, metrics chan<- prometheus.Metric) {
	live, err := c.store.LiveInstances(ctx)
	if err != nil {
		c.logger.WarnContext(ctx, "metrics: the instances cannot be counted", "error", err)
		return
	}
	metrics <- prometheus.MustNewConstMetric(instancesDesc, prometheus.GaugeValue, float64(live))
	mismatches, err := c.store.Mismatches(ctx)
	if err != nil {
		c.logger.WarnContext(ctx, "metrics: the instances cannot be compared", "error", err)
		return
	}
	for payer := range mismatches {
		metrics <- prometheus.MustNewConstMetric(mismatchDesc, prometheus.GaugeValue, 1, payer)
	}
}
