package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Point is one first load of another size or shape, over plain HTTP.
type Point struct {
	Series      string `json:"series"` // size, connections or shape
	Name        string `json:"name"`
	Bytes       int64  `json:"bytes"`
	Rows        int64  `json:"rows"`
	Connections int    `json:"connections"`
	Usage       Usage  `json:"usage"`
}

// MBPerSecond is the throughput by the clock.
func (p Point) MBPerSecond() float64 { return float64(p.Bytes) / 1e6 / p.Usage.Seconds }

// The names of the points of which the report has a figure.
const (
	wholeFiles = "one file a type"
	smallFiles = "files of 1 MB"
	longLines  = "long lines"
	manyRows   = "many small rows"
)

// wholeType is how many lines a file has where a type is one file.
const wholeType = 1 << 40

// scale measures first loads by size, by connections and by shape.
func (b *bench) scale(ctx context.Context) ([]Point, error) {
	type run struct {
		series, name        string
		connections, perset int // lines a file
	}
	const usual = 10_000
	var points []Point
	for _, set := range []struct {
		name string
		make func(dir string) (dataset, error)
		runs []run
	}{
		{"x1", b.claims(ctx, 1), []run{{"size", "×1", 2, usual}}},
		{"x4", b.claims(ctx, 4), []run{
			{"size", "×4", 2, usual},
			{"connections", "1", 1, usual},
			{"connections", "2", 2, usual},
			{"connections", "4", 4, usual},
			{"shape", smallFiles, 4, 180},
		}},
		{"x16", b.claims(ctx, 16), []run{{"size", "×16", 2, usual}, {"shape", wholeFiles, 4, wholeType}}},
		{"rows", func(dir string) (dataset, error) { return writeSmallRows(dir, b.options.Rows) }, []run{{"shape", manyRows, 2, usual}}},
		{"long", func(dir string) (dataset, error) { return writeLongLines(dir, b.options.LongLine) }, []run{{"shape", longLines, 4, 2}}},
	} {
		dir := filepath.Join(b.options.Dir, "scale-"+set.name)
		data, err := set.make(dir)
		if err != nil {
			return points, fmt.Errorf("write data for %s: %w", set.name, err)
		}
		for _, r := range set.runs {
			p := Point{Series: r.series, Name: r.name, Bytes: data.bytes, Rows: data.lines, Connections: r.connections}
			if p.Usage, err = b.loadOnce(ctx, data, r.connections, r.perset); err != nil {
				return points, fmt.Errorf("%s %s: %w", r.series, r.name, err)
			}
			fmt.Fprintf(b.options.Progress, "%-11s %-16s %8.1f MB  %d connections  %7.2f s  %6.1f MB/s  %4.0f MiB\n", p.Series, p.Name,
				float64(p.Bytes)/1e6, p.Connections, p.Usage.Seconds, p.MBPerSecond(), p.Usage.PeakRSSMiB)
			points = append(points, p)
		}
		if err := os.RemoveAll(dir); err != nil {
			return points, fmt.Errorf("remove the data for %s: %w", set.name, err)
		}
	}
	return points, nil
}

// loadOnce measures the first load of a dataset from a payer of its own, and forgets it.
func (b *bench) loadOnce(ctx context.Context, data dataset, connections, linesPerFile int) (usage Usage, err error) {
	shared, base := b.payer, b.base
	defer func() { b.payer, b.base = shared, base }()
	b.base = data
	b.payer, err = startPayer(ctx, b.options.Program, PayerOptions{
		Base: data.dir, Changed: data.dir, JWKS: b.jwksFile, LinesPerFile: linesPerFile,
	})
	if err != nil {
		return usage, err
	}
	defer func() { err = errors.Join(err, b.payer.stop()) }()
	const name = "scale"
	config, err := b.writeConfig("plain", []string{name}, connections)
	if err != nil {
		return usage, err
	}
	usage, err = b.ingest(ctx, config, name, expectation{lines: data.lines, inserted: data.lines})
	return usage, errors.Join(err, b.forget(ctx, name))
}

// claims is claims data of so many times the unit of the scale.
func (b *bench) claims(ctx context.Context, times int64) func(dir string) (dataset, error) {
	return func(dir string) (dataset, error) {
		base, _, err := generate(ctx, dir, times*b.options.ScaleUnit, 0)
		return base, err
	}
}

// writeSmallRows writes so many resources of 300 bytes: of such, the keys and the indexes are most of the work.
func writeSmallRows(dir string, rows int) (dataset, error) {
	return writeLines(dir, "Observation", rows, func(w *bufio.Writer, n int) {
		fmt.Fprintf(w, `{"resourceType":"Observation","id":"obs-%09d","meta":{"versionId":"1","lastUpdated":"2026-01-02T03:04:05Z"},`+
			`"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/member-%d"},`+
			`"effectiveDateTime":"2026-01-01","valueQuantity":{"value":%d,"unit":"/min"}}`, n, n%5000, 50+n%100)
	})
}

// writeLongLines writes eight resources of so many bytes each.
func writeLongLines(dir string, length int) (dataset, error) {
	text := strings.Repeat("QmluYXJ5", length/8)
	return writeLines(dir, "Binary", 8, func(w *bufio.Writer, n int) {
		fmt.Fprintf(w, `{"resourceType":"Binary","id":"b%d","contentType":"text/plain","data":"%s"}`, n, text)
	})
}

// writeLines writes a folder with one file of one type.
func writeLines(dir, resourceType string, lines int, line func(w *bufio.Writer, n int)) (data dataset, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // generated data
		return data, fmt.Errorf("make the data's folder: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, resourceType+".ndjson"))
	if err != nil {
		return data, fmt.Errorf("create a file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	for n := range lines {
		line(w, n)
		_ = w.WriteByte('\n') // Flush says whether it failed
	}
	if err := w.Flush(); err != nil {
		return data, fmt.Errorf("write a file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return data, fmt.Errorf("measure a file: %w", err)
	}
	return dataset{dir: dir, tables: []string{tableOf(resourceType)}, lines: int64(lines), bytes: info.Size()}, nil
}
