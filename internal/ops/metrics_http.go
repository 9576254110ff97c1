package ops

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ingestd/internal/outbound"
)

// httpMetrics tell of the requests to payers, by endpoint: never by host or path, which payers name.
type httpMetrics struct {
	requests     *prometheus.CounterVec
	failures     *prometheus.CounterVec
	repeats      *prometheus.CounterVec
	durations    *prometheus.HistogramVec
	serverExpiry *prometheus.GaugeVec
	clientExpiry *prometheus.GaugeVec
}

func newHTTPMetrics() *httpMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	return &httpMetrics{
		requests: counterVec("ingestd_http_requests_total",
			"Requests to payers, by endpoint and HTTP status; none where no response came.", "payer", "endpoint", "code"),
		failures: counterVec("ingestd_http_request_failures_total",
			"Requests to payers that got no response, by why.", "payer", "endpoint", "reason"),
		repeats: counterVec("ingestd_http_retries_total",
			"Requests that were sent again at once: after a broken connection, or with a fresh token.", "payer", "endpoint"),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ingestd_http_request_duration_seconds", Help: "From the sending of a request to the header of its response.",
			Buckets: []float64{0.1, 0.5, 2.5, 10, 60},
		}, []string{"payer", "endpoint"}),
		serverExpiry: gauge("ingestd_tls_server_certificate_expiry_timestamp_seconds",
			"When the certificate ends that the server of an endpoint showed last.", "payer", "endpoint"),
		clientExpiry: gauge("ingestd_tls_client_certificate_expiry_timestamp_seconds",
			"When the client certificate ends that is shown to the payer.", "payer"),
	}
}

func (m *httpMetrics) register(registry prometheus.Registerer) {
	registry.MustRegister(m.requests, m.failures, m.repeats, m.durations, m.serverExpiry, m.clientExpiry)
}

// Exchanged returns what counts the requests to a payer.
func (m *Metrics) Exchanged(payer string) func(outbound.Exchange) {
	h := m.http
	return func(x outbound.Exchange) {
		endpoint := string(x.Endpoint)
		if x.Repeated {
			h.repeats.WithLabelValues(payer, endpoint).Inc()
		}
		if x.Status == 0 {
			h.requests.WithLabelValues(payer, endpoint, "none").Inc()
			h.failures.WithLabelValues(payer, endpoint, reasonLabel(x.Failure)).Inc()
			return
		}
		h.requests.WithLabelValues(payer, endpoint, statusLabel(x.Status)).Inc()
		h.durations.WithLabelValues(payer, endpoint).Observe(x.Took.Seconds())
		if !x.CertificateExpiry.IsZero() {
			h.serverExpiry.WithLabelValues(payer, endpoint).Set(float64(x.CertificateExpiry.Unix()))
		}
	}
}

// ClientCertificate tells when the client certificate of a payer ends; zero where it has none.
func (m *Metrics) ClientCertificate(payer string, expiry time.Time) {
	if expiry.IsZero() {
		m.http.clientExpiry.DeleteLabelValues(payer)
		return
	}
	m.http.clientExpiry.WithLabelValues(payer).Set(float64(expiry.Unix()))
}

// statusLabel is an HTTP status as a label: those that have a name (RFC 9110), because a server may send any number.
func statusLabel(status int) string {
	if http.StatusText(status) == "" {
		return "other"
	}
	return strconv.Itoa(status)
}

// reasonLabel is why no response came: a code of package outbound, or canceled where nobody waits for it any more.
func reasonLabel(failure string) string {
	if failure == "" {
		return "canceled"
	}
	return failure
}
