package archtest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const (
	alertsDir    = root + "/deployments/prometheus"
	alertsFile   = "ingestd.rules.yaml"
	alertsTests  = "ingestd.rules.test.yaml"
	metricsFile  = root + "/docs/metrics.md"
	runbooksFile = root + "/docs/runbooks.md"
)

// alert is a rule of Prometheus.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, filepath.Join(alertsDir, alertsFile), &rules)
	var all []alert
	for _, group := range rules.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("%s has %d alerts only", alertsFile, len(all))
	}
	return all
}

// documentedMetrics are the metrics of docs/metrics.md, which a test beside the code compares with it, and their labels.
func documentedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string][]string{ // what is not of our making
		"up": {}, "process_start_time_seconds": {}, "process_resident_memory_bytes": {}, "process_cpu_seconds_total": {}, "go_goroutines": {},
	}
	for _, match := range regexp.MustCompile("(?m)^\\| `(ingestd_[a-z_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(data), -1) {
		var labels []string
		for label := range strings.FieldsSeq(match[2]) {
			labels = append(labels, strings.Trim(label, "`"))
		}
		name := match[1]
		metrics[name] = labels
		if strings.HasSuffix(name, "_duration_seconds") {
			metrics[name+"_bucket"], metrics[name+"_sum"], metrics[name+"_count"] = append(slices.Clone(labels), "le"), labels, labels
		}
	}
	return metrics
}

var (
	metricName = regexp.MustCompile(`\b((?:ingestd|process|go)_[a-z0-9_]+|up)\b`)
	matchers   = regexp.MustCompile(`\b((?:ingestd|process|go)_[a-z0-9_]+|up)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!=|!~|=)`)
)

// wrongMetrics says what an expression uses that ingestd does not have: metrics, or labels of them.
func wrongMetrics(expression string, known map[string][]string) []string {
	var wrong []string
	for _, match := range metricName.FindAllString(expression, -1) {
		if _, ok := known[match]; !ok {
			wrong = append(wrong, match)
		}
	}
	for _, match := range matchers.FindAllStringSubmatch(expression, -1) {
		for _, label := range labelName.FindAllStringSubmatch(match[2], -1) {
			if name := label[1]; name != "instance" && name != "job" && !slices.Contains(known[match[1]], name) {
				wrong = append(wrong, match[1]+"{"+name+"}")
			}
		}
	}
	return wrong
}

// headings are the headings of the runbooks, as the fragments of their URLs.
func headings(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(runbooksFile)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, match := range regexp.MustCompile(`(?m)^#{2,4} (.+)$`).FindAllStringSubmatch(string(data), -1) {
		found[strings.ReplaceAll(strings.ToLower(match[1]), " ", "-")] = true
	}
	return found
}

func TestAlerts_have_a_severity_a_summary_and_a_runbook_and_use_metrics_that_exist(t *testing.T) {
	t.Parallel()
	known, runbooks := documentedMetrics(t), headings(t)
	for _, a := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s: severity is %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: has no summary or no description", a.Alert)
		}
		file, heading, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		if file != "docs/runbooks.md" || heading != strings.ToLower(a.Alert) || !runbooks[heading] {
			t.Errorf("%s: there is no runbook at %q", a.Alert, a.Annotations["runbook_url"])
		}
		if wrong := wrongMetrics(a.Expr, known); len(wrong) > 0 {
			t.Errorf("%s: ingestd has no %v", a.Alert, wrong)
		}
		for _, text := range a.Annotations { // no more of a series than names of the configuration, and words of fixed lists
			for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !slices.Contains([]string{"payer", "instance", "queue", "target", "endpoint"}, label[1]) {
					t.Errorf("%s: tells the label %s", a.Alert, label[1])
				}
			}
		}
	}
}

func TestAlerts_have_tests_that_let_each_fire_and_each_be_quiet(t *testing.T) {
	t.Parallel()
	var tests struct {
		Tests []struct {
			Series []struct {
				Series string `yaml:"series"`
			} `yaml:"input_series"`
			Alerts []struct {
				Name   string           `yaml:"alertname"`
				Expect []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readYAML(t, filepath.Join(alertsDir, alertsTests), &tests)
	known := documentedMetrics(t)
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, test := range tests.Tests {
		for _, s := range test.Series {
			if wrong := wrongMetrics(s.Series, known); len(wrong) > 0 {
				t.Errorf("the tests of the alerts use %v, which ingestd has not", wrong)
			}
		}
		for _, a := range test.Alerts {
			if len(a.Expect) > 0 {
				fires[a.Name] = true
			} else {
				quiet[a.Name] = true
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: fires in a test: %t, is quiet in one: %t; want both", a.Alert, fires[a.Alert], quiet[a.Alert])
		}
	}
}

// promtool finds Prometheus' tool; scripts/promtool puts it there.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	path, err := filepath.Abs(root + "/build/tools/promtool")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("promtool is not there: run scripts/promtool")
	}
	return path
}

func runPromtool(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), promtool(t), args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	return string(out), err
}

func TestAlerts_pass_promtool(t *testing.T) {
	t.Parallel()
	run := func(dir string, args ...string) (string, error) { return runPromtool(t, dir, args...) }
	if out, err := run(alertsDir, "check", "rules", "--lint-fatal", alertsFile); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
	if out, err := run(alertsDir, "test", "rules", alertsTests); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
	// The tests are no tests if they pass with an alert that never fires.
	rules, err := os.ReadFile(filepath.Join(alertsDir, alertsFile))
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Replace(rules, []byte("(ingestd_payer_stale) == 1"), []byte("(ingestd_payer_stale) == 2"), 1)
	tests, err := os.ReadFile(filepath.Join(alertsDir, alertsTests))
	if err != nil || bytes.Equal(broken, rules) {
		t.Fatalf("there is no rule to break, or %v", err)
	}
	only, _, _ := strings.Cut(string(tests), "  - name: IngestdExportFailingRepeatedly fires")
	dir := t.TempDir()
	for name, data := range map[string][]byte{alertsFile: broken, alertsTests: []byte(only)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run(dir, "test", "rules", alertsTests); err == nil || !strings.Contains(out, "IngestdPayerStale") {
		t.Errorf("an alert that never fires passes: %s", out)
	}
}

func TestWrongMetrics_are_found(t *testing.T) {
	t.Parallel()
	known := map[string][]string{"ingestd_a_total": {"payer"}}
	for expression, want := range map[string]int{
		`sum(rate(ingestd_a_total{payer="x",instance=~"y"}[5m]))`: 0, `ingestd_b_total`: 1, `ingestd_a_total{code!="5"}`: 1, `up`: 1,
	} {
		if got := wrongMetrics(expression, known); len(got) != want {
			t.Errorf("%s: got %v, want %d", expression, got, want)
		}
	}
}
