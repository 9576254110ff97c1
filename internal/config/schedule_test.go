package config_test

import (
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestLoad_says_which_part_of_a_schedule_is_wrong(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"0 2 * * 7":     `weekday "7": expected 0 to 6 (0 is Sunday), or SUN to SAT`,
		"60 2 * * *":    `minute "60": expected 0 to 59`,
		"0 24 * * *":    `hour "24": expected 0 to 23`,
		"0 2 0 * *":     `day "0": expected 1 to 31`,
		"0 2 * 13 *":    `month "13": expected 1 to 12, or JAN to DEC`,
		"0 2 * * MO":    `weekday "MO": expected 0 to 6`,
		"0 22-2 * * *":  `hour "22-2": expected 0 to 23`,
		"0 0 2 * * *":   "expected five fields (minute hour day month weekday)",
		"@Daily":        "expected @hourly, @daily, @weekly, @monthly, @yearly, or @every 6h",
		"@reboot":       "expected @hourly, @daily",
		"@every often":  "expected an interval such as @every 6h",
		"@every 2d":     "expected an interval such as @every 6h",
		"@every 1500ms": "expected an interval of whole seconds",
		"@every 10ms":   "expected an interval of 1s or more",
		"0 2 30 2 *":    "never comes",
	} {
		_, err := config.Parse("c.yaml", []byte(`
database: {url: env:D}
payers: [{name: p, fhir_url: "https://p.example/fhir", auth: {method: none}, schedule: "`+expression+`"}]
`))
		if err == nil || !strings.Contains(err.Error(), `payers[0].schedule: "`+expression+`": `+want) {
			t.Errorf("%s: got %v, want %s", expression, err, want)
		}
	}
}
