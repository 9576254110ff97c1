package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
)

// Report is a result boiled down: medians over the rounds, and ratios within each.
type Report struct {
	// FirstLoadRatio is the throughput of a first load by ingestd divided by that of psql \copy of ready rows, with the CPU
	// time of the simulated payer, shared out over all cores, taken off ingestd's time; FirstLoadWallRatio by the clock.
	FirstLoadRatio     float64 `json:"first_load_ratio"`
	FirstLoadWallRatio float64 `json:"first_load_wall_ratio"`
	// ReexportRatio is the throughput of a full export in which nothing changed divided by that of the first load.
	ReexportRatio     float64 `json:"reexport_ratio"`
	Reexport1pctRatio float64 `json:"reexport_1pct_ratio"`
	// ScriptRatio is the time of the script divided by that of ingestd.
	ScriptRatio      float64 `json:"script_ratio"`
	CPUPerGBPlain    float64 `json:"cpu_s_per_gb_plain"`
	CPUPerGBGzip     float64 `json:"cpu_s_per_gb_gzip"`
	PeakRSSMiB       float64 `json:"peak_rss_mib"`
	WALRatio         float64 `json:"wal_ratio"`
	ReaderWaitMillis float64 `json:"reader_wait_ms"`

	// Of the loads of the scale; 0 where they were not measured. The peak is that with four downloads.
	WholeFilesRSSMiB   float64 `json:"peak_rss_whole_files_mib"`
	SmallFilesRSSMiB   float64 `json:"peak_rss_small_files_mib"`
	LongLinesRSSMiB    float64 `json:"peak_rss_long_lines_mib"`
	ManyRowsWaitMillis float64 `json:"reader_wait_many_rows_ms"`

	Cores int    `json:"cores"`
	Raw   Result `json:"raw"`
}

// NewReport boils a result down.
func NewReport(r Result) Report {
	cores := float64(runtime.NumCPU())
	gigabytes := float64(r.Bytes) / 1e9
	over := func(f func(Round) float64) float64 {
		var values []float64
		for _, round := range r.Rounds {
			values = append(values, f(round))
		}
		return median(values)
	}
	return Report{
		FirstLoadRatio: over(func(x Round) float64 {
			return x.PSQL.Seconds / (x.Gzip.Seconds - x.Gzip.PayerCPU/cores)
		}),
		FirstLoadWallRatio: over(func(x Round) float64 { return x.PSQL.Seconds / x.Gzip.Seconds }),
		ReexportRatio:      over(func(x Round) float64 { return x.Gzip.Seconds / x.Unchanged.Seconds }),
		Reexport1pctRatio:  over(func(x Round) float64 { return x.Gzip.Seconds / x.Changed.Seconds }),
		ScriptRatio:        over(func(x Round) float64 { return x.Script.Seconds / x.Gzip.Seconds }),
		CPUPerGBPlain:      over(func(x Round) float64 { return x.Plain.CPUSeconds / gigabytes }),
		CPUPerGBGzip:       over(func(x Round) float64 { return x.Gzip.CPUSeconds / gigabytes }),
		PeakRSSMiB:         over(func(x Round) float64 { return max(x.Plain.PeakRSSMiB, x.Gzip.PeakRSSMiB) }),
		WALRatio:           over(func(x Round) float64 { return float64(x.Gzip.WALBytes) / float64(x.PSQL.WALBytes) }),
		ReaderWaitMillis:   1000 * over(func(x Round) float64 { return x.Gzip.ReaderWait }),
		Cores:              runtime.NumCPU(),
		Raw:                r,

		WholeFilesRSSMiB:   r.of(wholeFiles).PeakRSSMiB,
		SmallFilesRSSMiB:   r.of(smallFiles).PeakRSSMiB,
		LongLinesRSSMiB:    r.of(longLines).PeakRSSMiB,
		ManyRowsWaitMillis: 1000 * r.of(manyRows).ReaderWait,
	}
}

// of is what the load of a name took.
func (r Result) of(name string) Usage {
	for _, p := range r.Scale {
		if p.Name == name {
			return p.Usage
		}
	}
	return Usage{}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// Write stores the report as JSON.
func (r Report) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("make the report's folder: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// target is what a figure is to reach.
type target struct {
	what   string
	is     float64
	most   bool // the target is the most, not the least
	wanted float64
}

// Print shows the figures beside their targets.
func (r Report) Print(out io.Writer) {
	fmt.Fprintf(out, "\n%.1f MB, %d resources, %d connections, %d cores, medians of %d rounds\n\n",
		float64(r.Raw.Bytes)/1e6, r.Raw.Lines, r.Raw.Connections, r.Cores, len(r.Raw.Rounds))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tFIGURE\tTARGET\t")
	targets := []target{
		{"first load / psql, payer's CPU not counted", r.FirstLoadRatio, false, 0.9},
		{"first load / psql, by the clock", r.FirstLoadWallRatio, false, 0.75},
		{"full export, nothing changed / first load", r.ReexportRatio, false, 5},
		{"full export, 1 % changed / first load", r.Reexport1pctRatio, false, 4},
		{"ingestd / curl, jq and psql", r.ScriptRatio, false, 2.5},
		{"CPU seconds a GB, plain", r.CPUPerGBPlain, true, 3},
		{"CPU seconds a GB, gzip", r.CPUPerGBGzip, true, 6},
		{"peak RSS, MiB", r.PeakRSSMiB, true, 96},
		{"WAL / psql's", r.WALRatio, true, 1.15},
		{"longest wait of a reader, ms", r.ReaderWaitMillis, true, 50},
	}
	if len(r.Raw.Scale) > 0 {
		targets = append(targets,
			target{"peak RSS, 4 downloads, one file a type", r.WholeFilesRSSMiB, true, 96},
			target{"peak RSS, 4 downloads, files of 1 MB", r.SmallFilesRSSMiB, true, 96},
			target{"peak RSS, 4 downloads, lines of 64 MiB", r.LongLinesRSSMiB, true, 96 + 4*3*64},
			target{"longest wait of a reader, 1,000,000 rows, ms", r.ManyRowsWaitMillis, true, 50})
	}
	for _, t := range targets {
		sign, met := "≥", t.is >= t.wanted
		if t.most {
			sign, met = "≤", t.is <= t.wanted
		}
		verdict := "missed"
		if met {
			verdict = "met"
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s %g\t%s\n", t.what, t.is, sign, t.wanted, verdict)
	}
	_ = w.Flush() // to a terminal
}
