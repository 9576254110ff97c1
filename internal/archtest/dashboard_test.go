package archtest

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// panel is a panel of a dashboard of Grafana.
type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	GridPos struct{ H, W, X, Y int } `json:"gridPos"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

func (p panel) overlaps(q panel) bool {
	a, b := p.GridPos, q.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

func TestDashboard_has_a_title_a_unit_and_a_description_everywhere_and_uses_metrics_that_exist(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(root + "/deployments/grafana/ingestd.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title      string `json:"title"`
		UID        string `json:"uid"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	known := documentedMetrics(t)
	var variables []string
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name)
		if wrong := wrongMetrics(v.Definition, known); len(wrong) > 0 {
			t.Errorf("variable %s: ingestd has no %v", v.Name, wrong)
		}
	}
	if !slices.Equal(variables, []string{"datasource", "payer", "instance"}) || dashboard.Title == "" || dashboard.UID == "" {
		t.Errorf("the dashboard has the variables %v, the title %q and the uid %q", variables, dashboard.Title, dashboard.UID)
	}
	var rows []string
	seen := make(map[int]bool)
	for i, p := range dashboard.Panels {
		if seen[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		seen[p.ID] = true
		for _, q := range dashboard.Panels[:i] {
			if p.overlaps(q) {
				t.Errorf("%s lies over %s", p.Title, q.Title)
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Title == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Description) < 20 || len(p.Targets) == 0 {
			t.Errorf("%q: unit %q, description %q, %d targets", p.Title, p.FieldConfig.Defaults.Unit, p.Description, len(p.Targets))
		}
		for _, target := range p.Targets {
			expression := strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
			if wrong := wrongMetrics(expression, known); len(wrong) > 0 {
				t.Errorf("%s: ingestd has no %v", p.Title, wrong)
			}
			if target.LegendFormat == "" {
				t.Errorf("%s: a line has no name", p.Title)
			}
		}
	}
	if !slices.Equal(rows, []string{"Fleet", "Payer $payer"}) {
		t.Errorf("the dashboard has the rows %v", rows)
	}
}

// Prometheus itself reads each expression of the dashboard.
func TestDashboard_expressions_are_PromQL(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(root + "/deployments/grafana/ingestd.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	expressions := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			quoted, err := json.Marshal(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			if err != nil {
				t.Fatal(err)
			}
			expressions++
			rules.WriteString("      - {record: \"dashboard:" + strings.Repeat("x", expressions) + "\", expr: " + string(quoted) + "}\n")
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/rules.yaml", []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := runPromtool(t, dir, "check", "rules", "rules.yaml"); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	if expressions < 25 {
		t.Errorf("the dashboard has %d expressions only", expressions)
	}
}
