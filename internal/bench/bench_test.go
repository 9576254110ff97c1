package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestBench_runs_every_contender_and_writes_its_figures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"ingestd", "bench"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), "ingestd/cmd/"+name)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	rivals := "true"
	for _, tool := range []string{"jq", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			rivals = "false"
		}
	}
	path := filepath.Join(dir, "bench.json")
	command := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), "--size", "2", "--rounds", "1", "--rivals="+rivals,
		"--ingestd", filepath.Join(dir, "ingestd"), "--out", path, "--scale", "1", "--rows", "1000", "--long-line", "100000",
		"--plot", filepath.Join(dir, "bench.svg"))
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("bench: %v\n%s", err, out)
	} else if !strings.Contains(string(out), "first load / psql") {
		t.Errorf("bench prints no table:\n%s", out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	for name, figure := range map[string]float64{
		"first_load_ratio": report.FirstLoadRatio, "reexport_ratio": report.ReexportRatio, "cpu_s_per_gb_gzip": report.CPUPerGBGzip,
		"peak_rss_mib": report.PeakRSSMiB, "wal_ratio": report.WALRatio, "peak_rss_whole_files_mib": report.WholeFilesRSSMiB,
		"peak_rss_small_files_mib": report.SmallFilesRSSMiB, "peak_rss_long_lines_mib": report.LongLinesRSSMiB,
	} {
		if figure <= 0 || !bytes.Contains(text, []byte(`"`+name+`"`)) {
			t.Errorf("%s: got %v, want a figure", name, figure)
		}
	}
}

func TestPlot_draws_every_point(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Plot(&out, []Point{
		{Series: "size", Name: "×1", Bytes: 1e9, Usage: Usage{Seconds: 10, PeakRSSMiB: 70}},
		{Series: "size", Name: "×4", Bytes: 4e9, Usage: Usage{Seconds: 20, PeakRSSMiB: 71}},
		{Series: "connections", Name: "2", Bytes: 1e9, Usage: Usage{Seconds: 4}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"×1 1.0 GB", ">100<", "×4 4.0 GB", ">200<", ">70<", ">71<", ">250<", "</svg>"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the plot has no %q:\n%s", want, out.String())
		}
	}
	if err := xml.Unmarshal(out.Bytes(), new(struct{})); err != nil {
		t.Errorf("the plot is no XML: %v", err)
	}
}

func TestGenerate_writes_the_same_resources_as_lines_and_as_rows(t *testing.T) {
	t.Parallel()
	base, changed, err := generate(t.Context(), t.TempDir(), 1<<20, 3)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(dir string) int64 {
		var n int
		paths, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(text, []byte("\n"))
		}
		return int64(n)
	}
	var rows int64
	for _, part := range base.parts {
		rows += lines(part)
	}
	if got := lines(base.dir); got != base.lines || rows != base.lines || lines(changed.dir) != base.lines {
		t.Errorf("lines: got %d, rows %d, changed %d; want %d each", got, rows, lines(changed.dir), base.lines)
	}
	if changed.changed != base.lines/100 {
		t.Errorf("changed lines: got %d, want one in a hundred of %d", changed.changed, base.lines)
	}
}

func TestRowOf_escapes_what_COPY_would_take_for_its_own(t *testing.T) {
	t.Parallel()
	row, err := rowOf([]byte(`{"resourceType":"Claim","id":"c","meta":{"versionId":"2"},"note":"a\tb\\"}`))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Split(string(row), "\t")
	if len(fields) != 9 || fields[1] != "c" || fields[2] != "2" || fields[3] != `\N` || fields[4] != `\N` ||
		!strings.Contains(fields[5], `a\\tb\\\\`) || !strings.HasPrefix(fields[6], `\\x`) {
		t.Errorf("got %q", fields)
	}
}

func TestParseStat_reads_a_name_with_parentheses(t *testing.T) {
	t.Parallel()
	pid, parent, seconds, err := parseStat([]byte("42 (a (b) c) S 7 1 1 0 -1 4194304 1 2 3 4 100 200 30 40 20 0 1 0 1 1 1 1"))
	if err != nil || pid != 42 || parent != 7 || seconds != 3.7 {
		t.Errorf("got %d, %d, %v, %v; want 42, 7, 3.7", pid, parent, seconds, err)
	}
	if _, _, _, err := parseStat([]byte("42 sh")); err == nil {
		t.Error("a line of another form: got no error")
	}
}

func TestReport_takes_ratios_within_a_round_and_medians_over_them(t *testing.T) {
	t.Parallel()
	round := func(psql, first, again float64) Round {
		return Round{
			PSQL: Usage{Seconds: psql, WALBytes: 100}, Plain: Usage{Seconds: first, CPUSeconds: 1, PeakRSSMiB: 10},
			Gzip:      Usage{Seconds: first, CPUSeconds: 2, PeakRSSMiB: 30, WALBytes: 110},
			Unchanged: Usage{Seconds: again}, Changed: Usage{Seconds: again}, Script: Usage{Seconds: 3 * first},
		}
	}
	got := NewReport(Result{Bytes: 2e9, Rounds: []Round{round(8, 10, 2), round(9, 10, 5), round(40, 20, 2)}})
	if got.FirstLoadWallRatio != 0.9 || got.ReexportRatio != 5 || got.ScriptRatio != 3 || got.CPUPerGBGzip != 1 ||
		got.PeakRSSMiB != 30 || got.WALRatio != 1.1 {
		t.Errorf("got %+v", got)
	}
}
