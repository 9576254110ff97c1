package ops

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ingestd/internal/config"
	"ingestd/internal/store"
)

const (
	// scrapeTimeout bounds what a scrape waits for the database.
	scrapeTimeout = 2 * time.Second
	// figuresLife is how long what the database said is told again: every instance is scraped, perhaps by several servers.
	figuresLife = 10 * time.Second
)

// fleetCollector tells of the payers and the fleet as the database has them, so that every instance reports the same. Where the
// database is away, it goes on telling what it knew of the payers, whose data age all the same, and of queues and
// instances nothing.
type fleetCollector struct {
	options MetricsOptions
	timeout time.Duration
	life    time.Duration

	mu       sync.Mutex
	figures  store.Figures
	asked    time.Time
	answered time.Time
	up       bool
}

func newFleetCollector(o MetricsOptions) *fleetCollector {
	return &fleetCollector{options: o, timeout: scrapeTimeout, life: figuresLife}
}

func gaugeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	freshnessDesc   = gaugeDesc("ingestd_data_freshness_seconds", "Age of the latest transactionTime that was published.", "payer")
	sloDesc         = gaugeDesc("ingestd_freshness_slo_seconds", "How long the payer may be without a publish before its data count as stale (freshness_slo).", "payer")
	staleDesc       = gaugeDesc("ingestd_payer_stale", "1 where nothing was published for longer than freshness_slo.", "payer")
	lastSuccessDesc = gaugeDesc("ingestd_last_success_timestamp_seconds", "When an export was last published.", "payer")
	linesDesc       = gaugeDesc("ingestd_last_publish_lines", "Lines of the export that was last published.", "payer")
	quarantinedDesc = gaugeDesc("ingestd_last_publish_quarantined_lines", "Lines of the export that was last published which are in quarantine.", "payer")
	failedDesc      = gaugeDesc("ingestd_payer_failed_exports", "Exports that have failed since the last publish.", "payer")
	pausedDesc      = gaugeDesc("ingestd_payer_paused", "1 where an operator has paused the payer.", "payer")
	enabledDesc     = gaugeDesc("ingestd_payer_enabled", "1 where the configuration has the payer enabled.", "payer")
	runningDesc     = gaugeDesc("ingestd_export_running", "1 while an export of the payer is in this phase.", "payer", "phase")
	startedDesc     = gaugeDesc("ingestd_export_started_timestamp_seconds", "When the running export of the payer was recorded.", "payer")
	stalledDesc     = gaugeDesc("ingestd_export_stalled", "1 while the running export takes far longer than the payer's others did, without progress.", "payer")
	mismatchDesc    = gaugeDesc("ingestd_config_mismatch", "1 where live instances have the payer configured differently, or some not at all.", "payer")
	jobsDesc        = gaugeDesc("ingestd_queue_jobs", "Jobs of the engine, by queue and state: due, running or later.", "queue", "state")
	oldestDesc      = gaugeDesc("ingestd_queue_oldest_due_job_age_seconds", "How long the first of the jobs that are due has been so; 0 where none is.", "queue")
	instancesDesc   = gaugeDesc("ingestd_instances", "Instances that are alive.")
	leaderDesc      = gaugeDesc("ingestd_leader", "1 where an instance leads the job engine.")
	upDesc          = gaugeDesc("ingestd_database_up", "1 where the database answered when it was last asked.")
	answeredDesc    = gaugeDesc("ingestd_database_last_answer_timestamp_seconds", "When the database last answered this instance's metrics.")
)

// phases are the states of an export that runs.
var phases = []store.State{
	StateWaiting, store.StateStarting, store.StatePolling, store.StateLoading, store.StatePublishing, store.StateHeld,
}

// queues are those of the job engine; those of runs in the foreground are one.
var queues = []string{"control", "bulk", "notify", "fleet", "retention", "foreground"}

// Describe implements prometheus.Collector.
func (c *fleetCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		freshnessDesc, sloDesc, staleDesc, lastSuccessDesc, linesDesc, quarantinedDesc, failedDesc, pausedDesc, enabledDesc, runningDesc,
		startedDesc, stalledDesc, mismatchDesc, jobsDesc, oldestDesc, instancesDesc, leaderDesc, upDesc, answeredDesc,
	} {
		descs <- desc
	}
}

// look asks the database, unless that was done a moment ago. Who comes meanwhile waits for the same answer.
func (c *fleetCollector) look(payers []config.Payer) (figures store.Figures, answered time.Time, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.asked) < c.life {
		return c.figures, c.answered, c.up
	}
	names := make([]string, len(payers))
	for i, p := range payers {
		names[i] = p.Name
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	figures, err := c.options.Store.Figures(ctx, names)
	c.asked, c.up = time.Now(), err == nil
	if err != nil {
		c.options.Logger.WarnContext(ctx, "metrics: the database did not answer", "error", err)
	} else {
		c.figures, c.answered = figures, c.asked
	}
	return c.figures, c.answered, c.up
}

// Collect implements prometheus.Collector.
func (c *fleetCollector) Collect(metrics chan<- prometheus.Metric) {
	emit := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	payers := c.options.Config().Payers
	figures, answered, up := c.look(payers)
	emit(upDesc, flag(up))
	if !answered.IsZero() {
		emit(answeredDesc, seconds(answered))
	}
	known := make(map[string]store.PayerFigures, len(figures.Payers))
	for _, p := range figures.Payers {
		known[p.Payer] = p
	}
	now := time.Now()
	for _, p := range payers {
		emit(enabledDesc, flag(p.Enabled), p.Name)
		if f, ok := known[p.Name]; ok {
			collectPayer(emit, p, f, now)
		}
	}
	if !up {
		return
	}
	emit(instancesDesc, float64(figures.Instances))
	emit(leaderDesc, flag(figures.Leads))
	for _, payer := range figures.Mismatched {
		emit(mismatchDesc, 1, payer)
	}
	byName := make(map[string]store.QueueFigures, len(figures.Queues))
	for _, q := range figures.Queues {
		byName[q.Queue] = q
	}
	for _, name := range queues {
		q := byName[name]
		emit(jobsDesc, float64(q.Due), name, "due")
		emit(jobsDesc, float64(q.Running), name, "running")
		emit(jobsDesc, float64(q.Later), name, "later")
		emit(oldestDesc, q.OldestDue.Seconds(), name)
	}
}

// collectPayer tells of one payer.
func collectPayer(emit func(*prometheus.Desc, float64, ...string), p config.Payer, f store.PayerFigures, now time.Time) {
	if !f.FreshAt.IsZero() {
		emit(freshnessDesc, max(0, now.Sub(f.FreshAt).Seconds()), p.Name)
	}
	if p.FreshnessSLO > 0 {
		known := store.PayerState{StaleSince: f.StaleSince}
		if !f.PublishedAt.IsZero() {
			known.Published = store.Export{ID: 1, FinishedAt: f.PublishedAt}
		}
		since := staleSince(p, known)
		emit(sloDesc, p.FreshnessSLO.Seconds(), p.Name)
		emit(staleDesc, flag(!since.IsZero() && !since.After(now)), p.Name)
	}
	if !f.PublishedAt.IsZero() {
		emit(lastSuccessDesc, seconds(f.PublishedAt), p.Name)
		emit(linesDesc, float64(f.Lines), p.Name)
		emit(quarantinedDesc, float64(f.Quarantined), p.Name)
	}
	emit(failedDesc, float64(f.Failed), p.Name)
	emit(pausedDesc, flag(f.Paused), p.Name)
	state := f.State
	if state == store.StateStarting && f.Waiting {
		state = StateWaiting
	}
	for _, phase := range phases {
		emit(runningDesc, flag(state == phase), p.Name, string(phase))
	}
	if f.State.Active() {
		emit(startedDesc, seconds(f.StartedAt), p.Name)
	}
	emit(stalledDesc, flag(f.State == store.StatePolling && !f.StalledAt.IsZero()), p.Name)
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds are an instant in the form of Prometheus.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// certificateCollector tells when the certificate of the public listener ends. The file is read at each scrape, as it is for
// each change of it.
type certificateCollector struct{ config func() *config.Config }

var jwksExpiryDesc = gaugeDesc("ingestd_jwks_certificate_expiry_timestamp_seconds", "When the certificate of the JWKS listener ends.")

// Describe implements prometheus.Collector.
func (certificateCollector) Describe(descs chan<- *prometheus.Desc) { descs <- jwksExpiryDesc }

// Collect implements prometheus.Collector.
func (c certificateCollector) Collect(metrics chan<- prometheus.Metric) {
	file := c.config().JWKS.CertificateFile
	if file == "" {
		return
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return // the listener says so
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return
	}
	if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
		metrics <- prometheus.MustNewConstMetric(jwksExpiryDesc, prometheus.GaugeValue, seconds(certificate.NotAfter))
	}
}
