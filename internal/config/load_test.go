package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"ingestd/internal/config"
)

const head = `
database: {url: env:DATABASE_URL}
keys:
  - {id: k1, private_key: file:/etc/ingestd/k1.pem}
`

func mustParse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoad_fills_in_the_built_in_defaults(t *testing.T) {
	t.Parallel()
	c, err := config.Load("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Database:  config.Database{URL: "postgres://ingestd@db.example/fhir", Auth: "password", Schema: "fhir", MaxConnections: 10},
		Admin:     config.Admin{Listen: "127.0.0.1:8090"},
		JWKS:      config.JWKS{MaxAge: time.Hour},
		Log:       config.Log{Level: "info", Format: config.LogAuto},
		Tracing:   config.Tracing{SampleRatio: 1},
		Shutdown:  config.Shutdown{Grace: 25 * time.Second},
		Reload:    config.Reload{RemovedPayers: "finish"},
		Retention: config.Retention{Exports: 400 * 24 * time.Hour},
		ECS:       config.ECS{TaskProtection: true},
		Workers:   config.Workers{Control: 8, Downloads: 8, Chunk: 4 << 20},
		Keys: []config.Key{{
			ID: "k1", PrivateKey: "file:/etc/ingestd/k1.pem", State: "active", Source: "testdata/good/minimal.yaml:3",
		}},
		Payers: []config.Payer{{
			Name: "bluecross", FHIRURL: "https://fhir.bluecross.example/r4", Enabled: true, Timezone: "UTC",
			Auth: config.Auth{Method: "private_key_jwt", ClientID: "ingestd", Key: "k1"},
			Export: config.Export{
				Level: "system", Method: "get", Handling: "none", Since: "auto", SinceOverlap: 10 * time.Minute, Newcomers: "backfill",
				Timeout: 24 * time.Hour, Attachments: "none",
			},
			Limits: config.Limits{Downloads: 4, PollMin: 5 * time.Second, PollMax: 5 * time.Minute, MaxLine: 64 << 20, AttachmentBytes: 32 << 20},
			TLS:    config.TLS{MinVersion: "1.2"},
			Load:   config.Loading{History: "deletes", QuarantineMaxShare: 0.001, RemoveGhosts: true, GhostMaxShare: 0.2},
			Source: "testdata/good/minimal.yaml:5",
		}},
		Files: []string{"testdata/good/minimal.yaml"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestLoad_lays_the_defaults_under_each_payer(t *testing.T) {
	t.Parallel()
	c, err := config.Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Payers) != 4 {
		t.Fatalf("got %d payers, want 4", len(c.Payers))
	}
	own, local, included := c.Payers[0], c.Payers[1], c.Payers[3]
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"an own value wins", own.Limits.Downloads, 6},
		{"beside it, the default stands", own.Limits.PollMin, time.Second},
		{"and where there is none, the built-in one", included.Limits.MaxLine, config.Size(64 << 20)},
		{"a list replaces the default's", own.Export.Types, []string{"Patient", "Coverage", "ExplanationOfBenefit"}},
		{"an empty one too", own.Auth.Scopes, []string{}},
		{"a mapping is merged", own.Export.Headers, map[string]string{"X-Site": "two", "X-Team": "data", "Epic-Client-ID": "abc"}},
		{"and the default stays as it was", included.Export.Headers, map[string]string{"X-Site": "one", "X-Team": "data"}},
		{"an empty string is a value", local.Schedule, ""},
		{"false and zero are values", []any{own.Enabled, own.Jitter, own.Load.RemoveGhosts}, []any{false, time.Duration(0), false}},
		{"defaults hold for included files", []any{included.Timezone, included.Auth.ClientID}, []any{"America/New_York", "everywhere"}},
		{"the only active key signs", []string{own.Auth.Key, included.Auth.Key}, []string{"2026", "2026"}},
		{"a bare number is a string where one is meant", []string{own.Export.GroupID, own.Auth.ClientID}, []string{"42", "12345"}},
		{"a mere host stands for a mapping", own.DownloadHosts, []config.DownloadHost{
			{Host: "files.bluecross.example"}, {Host: "files2.bluecross.example:8443", Token: true},
		}},
		{"where a payer stands", included.Source, "testdata/good/full.d/more.yaml:4"},
		{"which files were read", c.Files, []string{"testdata/good/full.yaml", "testdata/good/full.d/more.yaml"}},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: got %#v, want %#v", check.what, check.got, check.want)
		}
	}
}

func TestLoad_resolves_file_names_from_the_file_that_holds_them(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ got, want config.Secret }{
		{c.Database.URL, config.Secret("embedded:" + dir + "/data")},
		{c.Keys[0].PrivateKey, config.Secret("file:" + dir + "/keys/2026.pem")},
		{c.Keys[2].PrivateKey, config.Secret("file:" + dir + "/full.d/more.pem")},
		{c.Payers[2].Auth.ClientSecret, config.Secret("file:" + dir + "/secret")},
	} {
		if check.got != check.want {
			t.Errorf("got %s, want %s", check.got, check.want)
		}
	}
}

func TestLoad_follows_aliases_and_merge_keys(t *testing.T) {
	t.Parallel()
	c, err := config.Load("testdata/good/aliases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type summary struct {
		name, url, zone, client, level string
		types                          []string
		downloads                      int
		pollMin                        time.Duration
	}
	var got []summary
	for _, p := range c.Payers {
		got = append(got, summary{
			p.Name, p.FHIRURL, p.Timezone, p.Auth.ClientID, p.Export.Level, p.Export.Types, p.Limits.Downloads, p.Limits.PollMin,
		})
	}
	both := []string{"Patient", "Coverage"}
	want := []summary{
		{"one", "https://one.example/r4", "UTC", "ingestd", "system", both, 9, time.Second},
		{"two", "https://one.example/r4", "UTC", "ingestd", "system", both, 1, time.Second},
		{"three", "https://one.example/r4", "Europe/Berlin", "ingestd", "patient", both, 9, time.Second},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// problems parses a text that must be refused.
func problems(t *testing.T, text string) []config.Problem {
	t.Helper()
	c, err := config.Parse("test.yaml", []byte(text))
	failed, ok := errors.AsType[*config.Error](err)
	if !ok || c != nil {
		t.Fatalf("got %v, %v: want no configuration, and an Error", c, err)
	}
	return failed.Problems
}

func TestParse_bounds_what_aliases_stand_for(t *testing.T) {
	t.Parallel()
	payer := "{name: p, download_hosts: [" + strings.Repeat("{host: x},", 2000) + "]}"
	merges := "payers:\n"
	for i := range 30 {
		merges += fmt.Sprintf("  - &m%d {<<: [*m%d, *m%d]}\n", i+1, i, i)
	}
	for name, text := range map[string]string{
		"a large payer many times":      "payers: [&p " + payer + strings.Repeat(", *p", 2000) + "]",
		"a default of everybody":        "payers: &p [" + strings.Repeat("{}, ", 10) + "]\ndefaults: *p",
		"merges of merges":              strings.Replace(merges, "payers:\n", "payers:\n  - &m0 {name: x, schedule: \"@daily\"}\n", 1),
		"a mapping that merges itself":  "payers: [&p {name: x, <<: *p}]",
		"a list that holds itself":      "payers: &p [*p]",
		"a mapping that holds itself":   "payers: [&p {auth: *p}]",
		"a list of merges of the whole": "payers: [&p {name: x, <<: [*p, *p, *p, *p]}]",
	} {
		start := time.Now()
		got := problems(t, head+text)
		if len(got) > 100 {
			t.Errorf("%s: got %d problems", name, len(got))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestParse_tells_a_wrong_default_once(t *testing.T) {
	t.Parallel()
	text := head + "defaults: {timezone: Nowhere, auth: {client_id: x}}\npayers:\n"
	for i := range 50 {
		text += fmt.Sprintf("  - {name: p%d, fhir_url: 'https://p%d.example'}\n", i, i)
	}
	if got := problems(t, text); len(got) != 1 || got[0].Line != 5 || got[0].Path != "defaults.timezone" {
		t.Errorf("got %v, want one problem of defaults.timezone on line 5", got)
	}
}

func TestParse_cannot_include(t *testing.T) {
	t.Parallel()
	got := problems(t, head+"include: [conf.d/*.yaml]\n")
	if len(got) != 1 || got[0].Path != "include" || got[0].Line != 5 {
		t.Errorf("got %v, want one problem of include on line 5", got)
	}
}

func TestParse_accepts_a_key_with_nothing_in_it(t *testing.T) {
	t.Parallel()
	c := mustParse(t, head+"admin:\nlog: ~\npayers:\n")
	if c.Admin.Listen != "127.0.0.1:8090" || c.Log.Level != "info" || len(c.Payers) != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestLoad_accepts_an_include_that_matches_nothing(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "ingestd.yaml")
	if err := os.WriteFile(name, []byte(head+"include: [conf.d/*.yaml]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(name); err != nil {
		t.Error(err)
	}
}

func TestLoad_refuses_a_file_that_is_too_large(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "ingestd.yaml")
	if err := os.WriteFile(name, []byte(strings.Repeat("# nothing\n", 2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(name)
	if err == nil || !strings.HasSuffix(err.Error(), "is larger than 16MiB") {
		t.Errorf("got %v", err)
	}
}

func TestLoad_keeps_http_for_loopback_hosts(t *testing.T) {
	t.Parallel()
	for url, valid := range map[string]bool{
		"http://localhost:8180/fhir": true, "http://127.0.0.1:8180/fhir": true, "http://[::1]/fhir": true, "HTTPS://payer.example/r4": true,
		"http://payer.example/r4": false, "http://localhost.example/": false, "http://10.0.0.1/": false, "https://": false, "https:///r4": false,
		"https://:443/": false, "https://u@payer.example/": false, "https://payer.example/r4?": false, "https://payer.example/#": false,
		"https://payer.example/%zz": false, "payer.example": false,
	} {
		_, err := config.Parse("test.yaml", []byte(head+"payers: [{name: x, fhir_url: '"+url+"', auth: {client_id: x}}]"))
		if (err == nil) != valid {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

func TestError_is_detected_through_wrapping(t *testing.T) {
	t.Parallel()
	_, err := config.Load("/nonexistent/ingestd.yaml")
	failed, ok := errors.AsType[*config.Error](fmt.Errorf("start: %w", err))
	if !ok || len(failed.Problems) != 1 || failed.Problems[0].File != "/nonexistent/ingestd.yaml" {
		t.Errorf("got %v, want an Error that names the file", err)
	}
}

func TestLoad_reads_the_text_from_an_environment_variable(t *testing.T) {
	t.Setenv("INGESTD_TEST_CONFIGURATION", "database: {url: env:DATABASE_URL}\npayers: []\n")
	if _, err := config.Load("env:INGESTD_TEST_CONFIGURATION"); err != nil {
		t.Error(err)
	}
	t.Setenv("INGESTD_TEST_CONFIGURATION", "database: {url: env:DATABASE_URL}\npayers: []\ninclude: [more.yaml]\ncolour: red\n")
	_, err := config.Load("env:INGESTD_TEST_CONFIGURATION")
	for _, want := range []string{"env:INGESTD_TEST_CONFIGURATION:3: include: cannot be used here", "env:INGESTD_TEST_CONFIGURATION:4: colour: unknown key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := config.Load("env:INGESTD_TEST_NOT_SET"); err == nil || !strings.Contains(err.Error(), "env:INGESTD_TEST_NOT_SET: is not set") {
		t.Errorf("got %v for a variable that is not set", err)
	}
}

func TestLoad_refuses_an_included_file_that_is_none(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(t.TempDir(), "ingestd.yaml")
	if err := os.WriteFile(main, []byte(head+"include: ["+dir+"/*.yaml]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(main)
	if err == nil {
		t.Fatal("got no error")
	}
	for _, name := range []string{"pipe.yaml", "zero.yaml", "directory.yaml"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want a word about %s", err, name)
		}
	}
}
