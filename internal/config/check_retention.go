package config

import "time"

// The shortest retentions. What is younger is still looked at, asked about and retried.
const (
	leastExports = 7 * 24 * time.Hour
	leastLines   = 24 * time.Hour
)

func (c checker) retention(r Retention) {
	for _, k := range []struct {
		key           string
		keep, atLeast time.Duration
	}{
		{"exports", r.Exports, leastExports}, {"quarantine", r.Quarantine, leastLines}, {"history", r.History, leastLines},
	} {
		if k.keep > 0 && k.keep < k.atLeast {
			c.at("retention."+k.key, "%s is too short: expected %s or more, or 0s", durationText(k.keep), durationText(k.atLeast))
		}
	}
	if r.Exports > 0 && r.Quarantine > r.Exports {
		c.at("retention.quarantine", "%s is longer than retention.exports, %s, with which the lines go", durationText(r.Quarantine),
			durationText(r.Exports))
	}
}
