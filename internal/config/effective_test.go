package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"ingestd/internal/config"
)

const oneKey = "database: {url: \"postgres://u:HUNTER2@db/x\"}\nkeys: [{id: k1, private_key: env:K1}]\n"

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSettings_are_read_as_the_same_payer_but_for_its_headers(t *testing.T) {
	t.Parallel()
	for _, name := range files(t, "testdata/good/*.yaml") {
		c, err := config.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Payers {
			data, err := p.Settings()
			if err != nil {
				t.Fatal(err)
			}
			for header, value := range p.Export.Headers {
				if strings.Contains(string(data), `"`+value+`"`) {
					t.Errorf("%s: the value of the header %s stands in the settings: %s", p.Name, header, data)
				}
			}
			got, err := config.ReadSettings(data)
			if err != nil {
				t.Fatalf("%s: %v: %s", p.Name, err, data)
			}
			want := normal(p)
			want.Source, want.FromProfile, want.Export.Headers = "", nil, nil
			if got := normal(got); !reflect.DeepEqual(got, want) {
				t.Errorf("%s:\ngot  %+v\nwant %+v", p.Name, got, want)
			}
		}
	}
}

func TestReadSettings_of_another_version_takes_what_is_built_in_for_what_is_missing(t *testing.T) {
	t.Parallel()
	p, err := config.ReadSettings([]byte(`{"name":"a","fhir_url":"https://a.example","new_key":{"x":[1]},"load":{"history":"all","newer":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Load.History != "all" || p.Limits.MaxLine != 64<<20 || !p.Load.RemoveGhosts {
		t.Errorf("got %+v", p)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"name":"a"}`, `{{`} {
		if _, err := config.ReadSettings([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestDigest_tells_settings_apart_and_not_where_files_lie(t *testing.T) {
	t.Parallel()
	base := `{name: a, fhir_url: "https://a.example", auth: {client_id: c}`
	digestOf := func(payer string) string {
		return parsed(t, oneKey+"payers: ["+payer+"}]").Payers[0].Digest()
	}
	want := digestOf(base)
	for _, same := range []string{
		base + `, enabled: true, timezone: UTC, limits: {downloads: 4}`, base + `, export: {types: []}`,
	} {
		if got := digestOf(same); got != want {
			t.Errorf("%s} has another digest", same)
		}
	}
	moved := parsed(t, oneKey+"payers: ["+base+"}]").Payers[0]
	moved.TLS.CAFile, moved.Auth.ClientSecret, moved.Export.Log = "/elsewhere/ca.pem", "env:ELSEWHERE", "/elsewhere"
	if moved.Digest() != want {
		t.Error("files that lie elsewhere change the digest")
	}
	seen := map[string]string{want: base}
	for _, other := range []string{
		base + `, enabled: false`, base + `, schedule: "@daily"`, base + `, export: {types: [Patient]}`, base + `, export: {types: [Coverage]}`,
		base + `, export: {headers: {X-A: one}}`, base + `, export: {headers: {X-A: two}}`, base + `, load: {history: all}`,
	} {
		got := digestOf(other)
		if seen[got] != "" {
			t.Errorf("%s} and %s} have one digest", other, seen[got])
		}
		seen[got] = other
	}
}

func TestCompare_tells_key_by_key_what_differs(t *testing.T) {
	t.Parallel()
	from := parsed(t, oneKey+`log: {level: info}
payers:
  - {name: gone, fhir_url: "https://gone.example", auth: {client_id: c}}
  - {name: kept, fhir_url: "https://kept.example", auth: {client_id: c}, schedule: "@daily", export: {types: [Patient]}}
  - {name: secretive, fhir_url: "https://s.example", auth: {client_id: c}, export: {headers: {X-A: HUNTER2}}}
  - {name: still, fhir_url: "https://still.example", auth: {client_id: c}}
`)
	to := parsed(t, oneKey+`log: {level: debug}
payers:
  - {name: still, fhir_url: "https://still.example", auth: {client_id: c}}
  - {name: secretive, fhir_url: "https://s.example", auth: {client_id: c}, export: {headers: {X-A: HUNTER3}}}
  - {name: kept, fhir_url: "https://kept.example", auth: {client_id: c}, timezone: Europe/Berlin, export: {types: [Patient, Coverage], group_id: g, level: group}}
  - {name: new, fhir_url: "https://new.example", auth: {client_id: c}}
`)
	// As a client has it, that was told by a daemon.
	data, err := json.Marshal(from.Effective())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "HUNTER") {
		t.Errorf("a secret is shown: %s", data)
	}
	var told config.Effective
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&told); err != nil {
		t.Fatal(err)
	}
	if d := config.Compare(told, from.Effective()); len(d) != 0 {
		t.Errorf("a configuration differs from itself: %v", d)
	}
	var got []string
	for _, d := range config.Compare(told, to.Effective()) {
		got = append(got, strings.TrimSpace(d.Payer+" "+d.String()))
	}
	want := []string{
		"log.level: info → debug",
		"gone : removed, was https://gone.example",
		"kept export.group_id: added: g",
		"kept export.level: system → group",
		`kept export.types: ["Patient"] → ["Patient","Coverage"]`,
		"kept schedule: removed, was @daily",
		"kept timezone: UTC → Europe/Berlin",
		"new : added: https://new.example",
		"secretive export.headers: [redacted] → [redacted]",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestReloaded_keeps_what_needs_a_restart_and_names_it(t *testing.T) {
	t.Parallel()
	old := parsed(t, oneKey+"payers: []\n")
	next := parsed(t, `database: {url: "postgres://u:HUNTER3@db/x", max_connections: 20}
admin: {listen: "127.0.0.1:1"}
log: {level: debug, format: text}
workers: {chunk: 1MiB, control: 3}
keys: [{id: k2, private_key: env:K2}]
payers: [{name: new, fhir_url: "https://new.example", auth: {client_id: c}}]
reload: {watch: true, removed_payers: cancel}
`)
	got, kept := old.Reloaded(next)
	if !reflect.DeepEqual(got.Database, old.Database) || got.Admin != old.Admin || got.Log.Format != config.LogAuto || got.Workers.Control != 8 {
		t.Errorf("got %+v", got)
	}
	if got.Log.Level != "debug" || got.Workers.Chunk != 1<<20 || got.Keys[0].ID != "k2" || len(got.Payers) != 1 || !got.Reload.Watch {
		t.Errorf("got %+v", got)
	}
	var keys []string
	for _, d := range kept {
		keys = append(keys, d.Key)
		if strings.Contains(d.String(), "HUNTER") {
			t.Errorf("a secret is shown: %s", d)
		}
	}
	if want := []string{"database.url", "database.max_connections", "admin.listen", "log.format", "workers.control"}; !reflect.DeepEqual(keys, want) {
		t.Errorf("kept %v, want %v", keys, want)
	}
	if next.Database.MaxConnections != 20 {
		t.Error("the next configuration was changed")
	}
}

func TestPinned_settings_decide_the_data_and_current_ones_how_to_get_at_them(t *testing.T) {
	t.Parallel()
	began := parsed(t, oneKey+`payers: [{name: a, fhir_url: "https://old.example", auth: {client_id: c, kid: one}, tls: {min_version: "1.2"},
  export: {types: [Patient]}, load: {history: all}, limits: {downloads: 1, max_line: 1KiB}}]`).Payers[0]
	now := parsed(t, oneKey+`payers: [{name: a, fhir_url: "https://new.example", auth: {client_id: c, kid: two}, tls: {min_version: "1.3"},
  export: {types: [Coverage], headers: {X-A: b}}, limits: {downloads: 7, max_line: 2KiB}}]`).Payers[0]
	got := began.Pinned(&now)
	if got.FHIRURL != began.FHIRURL || got.Export.Types[0] != "Patient" || got.Load.History != "all" || got.Limits.MaxLine != 1<<10 {
		t.Errorf("what decides the data is not as it began: %+v", got)
	}
	if got.Auth.Kid != "two" || got.TLS.MinVersion != "1.3" || got.Export.Headers["X-A"] != "b" || got.Limits.Downloads != 7 {
		t.Errorf("what leads to the data is not what it is now: %+v", got)
	}
	now.Auth.ClientID = "another"
	if got := began.Pinned(&now); got.Auth.Kid != "one" {
		t.Errorf("an export of one client goes on as another: %+v", got.Auth)
	}
	if got := began.Pinned(nil); !reflect.DeepEqual(got, began) {
		t.Errorf("without current settings: got %+v", got)
	}
}

func TestLive_keys_are_named_in_the_documentation(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(data), "## Changing it while the daemon runs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, key := range config.Live() {
		if !strings.Contains(section, "`"+key+"`") {
			t.Errorf("%s is not named", key)
		}
	}
}
