package ops

import (
	"fmt"

	dto "github.com/prometheus/client_model/go"

	"ingestd/internal/scheduler"
)

// Gather implements prometheus.Gatherer: the metrics of the registry, without the series of payers and targets that the
// configuration no longer has. What they counted stays in memory, and goes on where they come back. Series that are certain to
// come begin at zero, so that the first failure is an increase.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	c := m.options.Config()
	known := map[string]map[string]bool{"payer": {}, "target": {}}
	for _, p := range c.Payers {
		known["payer"][p.Name] = true
		for _, result := range exportResults {
			m.exports.WithLabelValues(p.Name, result)
		}
		for _, outcome := range rowOutcomes {
			m.rows.WithLabelValues(p.Name, outcome)
		}
	}
	for _, n := range c.Notify {
		known["target"][n.Name] = true
		for _, result := range scheduler.NotifyResults() {
			m.notified.WithLabelValues(n.Name, result)
		}
	}
	families, err := m.registry.Gather()
	kept := families[:0]
	for _, family := range families {
		metrics := family.GetMetric()[:0]
		for _, metric := range family.GetMetric() {
			if isOfConfigured(metric, known) {
				metrics = append(metrics, metric)
			}
		}
		if family.Metric = metrics; len(metrics) > 0 {
			kept = append(kept, family)
		}
	}
	if err != nil {
		err = fmt.Errorf("gather the metrics: %w", err)
	}
	return kept, err
}

func isOfConfigured(metric *dto.Metric, known map[string]map[string]bool) bool {
	for _, label := range metric.GetLabel() {
		if names, ok := known[label.GetName()]; ok && !names[label.GetValue()] {
			return false
		}
	}
	return true
}
