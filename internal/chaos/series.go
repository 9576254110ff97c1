package chaos

import (
	"slices"
	"time"
)

// Series is one figure over the time of a soak.
type Series struct {
	// Measure says what was measured, with its unit; Of is whose it is, an instance or Postgres.
	Measure string `json:"measure"`
	Of      string `json:"of"`
	// At are the times of the values, in seconds since the begin.
	At     []float64 `json:"at_seconds"`
	Values []float64 `json:"values"`
	// Growth is by how much the trend rose from the end of the first third to the end. Allowed is how much it may.
	Growth  float64 `json:"growth"`
	Allowed float64 `json:"allowed_growth"`

	allowance allowance
}

// allowance is what a figure may grow by, and still be called flat: a share of its level, and a bit for what is small.
type allowance struct {
	share, plus float64
}

// settled is the part of a series that is judged: what comes after its first third, in which caches, pools and tables fill.
func (s *Series) settled(total time.Duration) (at, values []float64) {
	from := total.Seconds() / 3
	first := slices.IndexFunc(s.At, func(t float64) bool { return t >= from })
	if first < 0 {
		return nil, nil
	}
	return s.At[first:], s.Values[first:]
}

// judge works out how much the series grew, and how much it may.
func (s *Series) judge(total time.Duration) {
	at, values := s.settled(total)
	s.Allowed = s.allowance.share*median(values) + s.allowance.plus
	if len(at) > 1 {
		s.Growth = slope(at, values) * (at[len(at)-1] - at[0])
	}
}

func (s *Series) level() float64 { return median(s.Values) }

func (s *Series) highest() float64 {
	if len(s.Values) == 0 {
		return 0
	}
	return slices.Max(s.Values)
}

// slope is the trend of values over times as Theil and Sen estimate it, the median of the slopes between any two points: a peak, of a
// collection of garbage that came late, does not move it.
func slope(at, values []float64) float64 {
	var slopes []float64
	for i := range at {
		for j := i + 1; j < len(at); j++ {
			if at[j] > at[i] {
				slopes = append(slopes, (values[j]-values[i])/(at[j]-at[i]))
			}
		}
	}
	return median(slopes)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
