package config_test

import (
	"slices"
	"testing"

	"ingestd/internal/config"
)

func TestNeedsRestart_agrees_with_what_a_reload_keeps(t *testing.T) {
	t.Parallel()
	parse := func(text string) *config.Config {
		t.Helper()
		c, err := config.Parse("c.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := parse(`
database: {url: env:D}
payers: [{name: p, fhir_url: "https://p.example/fhir", auth: {method: none}}]
`)
	after := parse(`
database: {url: env:E, max_connections: 20, indexes: [{name: i, columns: "(resource ->> 'a')"}]}
admin: {listen: "127.0.0.1:1"}
log: {level: debug, format: text}
workers: {control: 9, chunk: 1MiB}
fleet: {max_exports: 3}
notify: [{name: n, url: "https://n.example"}]
keys: [{id: k, private_key: env:K}]
retention: {exports: 1000h}
payers: [{name: p, fhir_url: "https://p.example/r4", auth: {method: none}, schedule: "@daily"}]
`)
	reloaded, kept := before.Reloaded(after)
	var restart []string
	for _, d := range config.Compare(before.Effective(), after.Effective()) {
		if d.NeedsRestart() {
			restart = append(restart, d.Key)
		}
	}
	var want []string
	for _, d := range kept {
		want = append(want, d.Key)
	}
	slices.Sort(want)
	if !slices.Equal(restart, want) || len(want) < 5 {
		t.Errorf("marked for a restart are %v, a reload keeps %v", restart, want)
	}
	for _, d := range config.Compare(reloaded.Effective(), after.Effective()) {
		if !d.NeedsRestart() {
			t.Errorf("%s is still another after a reload, and not marked", d.Key)
		}
	}
}
