package ops

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ingestd/internal/config"
)

// Configured is the configuration that an instance uses, and since when. Its JSON form, without secrets, is a public
// interface: 'ingestd check --against' reads it.
type Configured struct {
	config.Effective

	Version  string    `json:"version"`
	LoadedAt time.Time `json:"loaded_at"`
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	c, loadedAt := s.options.Config()
	writeJSON(w, http.StatusOK, Configured{Effective: c.Effective(), Version: s.options.Version, LoadedAt: loadedAt})
}

// The results of a reload.
const (
	ReloadApplied   = "applied"
	ReloadUnchanged = "unchanged"
	ReloadRefused   = "refused"
)

// reloadMetrics tell of the configuration and its exchange.
type reloadMetrics struct {
	reloads    *prometheus.CounterVec
	successful prometheus.Gauge
	at         prometheus.Gauge
	info       *prometheus.GaugeVec
}

func newReloadMetrics(registry prometheus.Registerer) *reloadMetrics {
	m := &reloadMetrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestd_config_reloads_total", Help: "How often the configuration was read again, by result: applied, unchanged or refused.",
		}, []string{"result"}),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ingestd_config_last_reload_successful", Help: "0 where the configuration was refused when it was last read: the one before is in use.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ingestd_config_last_reload_success_timestamp_seconds", Help: "When a configuration was last read and not refused.",
		}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingestd_config_info", Help: "1, with the digest of the configuration in use.",
		}, []string{"digest"}),
	}
	for _, result := range []string{ReloadApplied, ReloadUnchanged, ReloadRefused} {
		m.reloads.WithLabelValues(result)
	}
	registry.MustRegister(m.reloads, m.successful, m.at, m.info)
	return m
}

// ConfigInUse tells which configuration the instance uses.
func (m *Metrics) ConfigInUse(digest string, at time.Time) {
	m.reload.info.Reset()
	m.reload.info.WithLabelValues(digest).Set(1)
	m.reload.successful.Set(1)
	m.reload.at.Set(float64(at.UnixMilli()) / 1000)
}

// Reloaded counts a reload. After one that was not refused, ConfigInUse is to be told.
func (m *Metrics) Reloaded(result string) {
	m.reload.reloads.WithLabelValues(result).Inc()
	if result == ReloadRefused {
		m.reload.successful.Set(0)
	}
}
