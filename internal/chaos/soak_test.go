package chaos

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSeries_tells_a_leak_from_noise(t *testing.T) {
	t.Parallel()
	const total = 30 * time.Minute
	for _, test := range []struct {
		name  string
		value func(minute float64) float64
		rises bool
	}{
		{"flat", func(float64) float64 { return 50 }, false},
		{"fills at first", func(m float64) float64 { return 50 - 40*math.Exp(-m/2) }, false},
		{"a saw, as garbage is collected", func(m float64) float64 { return 50 + 10*math.Mod(m, 2) }, false},
		{"a peak at the end", func(m float64) float64 {
			if m > 29 {
				return 200
			}
			return 50
		}, false},
		{"falls", func(m float64) float64 { return 50 - m }, false},
		{"a MiB a minute", func(m float64) float64 { return 50 + m }, true},
		{"a MiB a minute under a saw", func(m float64) float64 { return 50 + m + 10*math.Mod(m, 2) }, true},
	} {
		s := Series{Measure: "resident memory, MiB", Of: "instance 0", allowance: allowance{share: 0.10, plus: 4}}
		for second := 0.0; second < total.Seconds(); second += 6 {
			s.At, s.Values = append(s.At, second), append(s.Values, test.value(second/60))
		}
		s.judge(total)
		e := Endurance{Series: []Series{s}}
		if got := len(e.Rising()) > 0; got != test.rises {
			t.Errorf("%s: rising is %t: growth %.1f, allowed %.1f", test.name, got, s.Growth, s.Allowed)
		}
	}
}

func TestSoak_measures_all_instances_and_Postgres_and_compares_everything(t *testing.T) {
	t.Parallel()
	o := testWorld(t)
	o.Duration, o.Seed = 12*time.Second, 5
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	e, err := Soak(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Wrong) > 0 || e.Rows == 0 || e.Ledgers == 0 {
		t.Errorf("it is not all right: %+v", e.Verdict)
	}
	for _, of := range []string{"instance 0", "instance 1"} {
		for _, figure := range ofInstance {
			hasValues(t, e.Series, figure.measure, of)
		}
	}
	for _, figure := range ofPostgres {
		hasValues(t, e.Series, figure.measure, "Postgres")
	}
	hasValues(t, e.Series, walMeasure, "Postgres")

	var svg, text strings.Builder
	if err := errors.Join(Plot(&svg, o.Duration, e.Series), e.Print(&text)); err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Series {
		if !strings.Contains(svg.String(), s.Measure) || !strings.Contains(text.String(), s.Measure) {
			t.Errorf("%s is not shown", s.Measure)
		}
	}
	if got := strings.Count(svg.String(), "<polyline"); got != len(e.Series) {
		t.Errorf("the plot has %d lines for %d series", got, len(e.Series))
	}
	for decoder := xml.NewDecoder(strings.NewReader(svg.String())); ; {
		if _, err := decoder.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
}

// hasValues wants a series with values, all of them above nothing.
func hasValues(t *testing.T, all []Series, measure, of string) {
	t.Helper()
	for _, s := range all {
		if s.Measure != measure || s.Of != of {
			continue
		}
		if len(s.Values) < 2 || len(s.Values) != len(s.At) || s.Values[len(s.Values)-1] <= 0 {
			t.Errorf("the %s of %s: %v at %v", measure, of, s.Values, s.At)
		}
		return
	}
	t.Errorf("the %s of %s were not measured", measure, of)
}
