package smartauth

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the manager does. A nil *metrics counts nothing.
type metrics struct {
	manager   *Manager
	requests  *prometheus.CounterVec
	refreshes *prometheus.CounterVec
	failures  *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	age       *prometheus.Desc
	expiry    *prometheus.Desc
	skew      *prometheus.Desc
}

func newMetrics(manager *Manager, registerer prometheus.Registerer) *metrics {
	if registerer == nil {
		return nil
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		options := prometheus.CounterOpts{Namespace: "ingestd", Subsystem: "token", Name: name, Help: help}
		return prometheus.NewCounterVec(options, labels)
	}
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("ingestd", "token", name), help, []string{"payer"}, nil)
	}
	m := &metrics{
		manager:   manager,
		requests:  counter("requests_total", "Requests to token endpoints, by how they ended.", "payer", "result"),
		refreshes: counter("refreshes_total", "Rounds to get a token, by why it was needed.", "payer", "reason"),
		failures:  counter("failures_total", "Rounds and discoveries that failed, by OAuth error.", "payer", "error"),
		refusals:  counter("refusals_total", "Requests to payers that were refused although they carried a token.", "payer", "status"),
		age:       gauge("age_seconds", "Age of the live token."),
		expiry:    gauge("expiry_seconds", "Seconds until the last token expires; negative after."),
		skew:      gauge("clock_skew_seconds", "How far the authorization server's clock is ahead."),
	}
	registerer.MustRegister(m.requests, m.refreshes, m.failures, m.refusals, m)
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.age
	descriptions <- m.expiry
	descriptions <- m.skew
}

// Collect implements prometheus.Collector: the gauges are read from the tokens when they are asked for.
func (m *metrics) Collect(samples chan<- prometheus.Metric) {
	now := time.Now()
	seen := make(map[string]bool)
	for _, status := range m.manager.Status() {
		if seen[status.Payer] { // a payer with two sets of scopes: one of them stands for both
			continue
		}
		seen[status.Payer] = true
		emit := func(description *prometheus.Desc, value float64) {
			samples <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, value, status.Payer)
		}
		if status.Live {
			emit(m.age, now.Sub(status.Obtained).Seconds())
		}
		if !status.Expires.IsZero() {
			emit(m.expiry, status.Expires.Sub(now).Seconds())
		}
		emit(m.skew, status.ClockSkew.Seconds())
	}
}

func (m *metrics) requested(payer string, failure *Error) {
	if m == nil {
		return
	}
	result := "ok"
	if failure != nil {
		result = metricCode(failure.Code)
	}
	m.requests.WithLabelValues(payer, result).Inc()
}

func (m *metrics) refreshing(payer string, why reason) {
	if m != nil {
		m.refreshes.WithLabelValues(payer, string(why)).Inc()
	}
}

func (m *metrics) failed(payer string, failure *Error) {
	if m != nil {
		m.failures.WithLabelValues(payer, metricCode(failure.Code)).Inc()
	}
}

// statusLabel is an HTTP status as a label: one that has a name, because a server may send any number.
func statusLabel(status int) string {
	if http.StatusText(status) == "" {
		return "other"
	}
	return strconv.Itoa(status)
}

func (m *metrics) refused(payer string, status int) {
	if m != nil {
		m.refusals.WithLabelValues(payer, statusLabel(status)).Inc()
	}
}
