package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestPayersProfiles_lists_all_and_shows_one_with_its_reasons(t *testing.T) {
	t.Parallel()
	code, all, stderr := checkCommand(t, "payers", "profiles")
	if code != exitDone || stderr != "" {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	for _, profile := range config.Profiles() {
		if !strings.Contains(all, "\n"+profile.Name) || !strings.Contains(all, profile.Title) {
			t.Errorf("%s is not listed:\n%s", profile.Name, all)
		}
		code, one, _ := checkCommand(t, "payers", "profiles", profile.Name)
		if code != exitDone {
			t.Errorf("%s: exit %d", profile.Name, code)
		}
		for _, s := range profile.Settings {
			if !strings.Contains(one, s.Key+" ") || !strings.Contains(one, s.Value) || !strings.Contains(one, plainText(s.Reason)) {
				t.Errorf("%s: %s is not shown with its reason:\n%s", profile.Name, s.Key, one)
			}
		}
		for _, note := range profile.Notes {
			if !strings.Contains(one, "\n- "+plainText(note)) {
				t.Errorf("%s: a note is not shown: %s", profile.Name, note)
			}
		}
	}
	if _, one, _ := checkCommand(t, "payers", "profiles", "cerner"); !strings.HasPrefix(one, "oracle: ") {
		t.Errorf("an alias shows\n%s", one)
	}
}

func TestPayersProfiles_prints_JSON(t *testing.T) {
	t.Parallel()
	_, out, _ := checkCommand(t, "payers", "profiles", "--output", "json")
	var all []config.Profile
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != len(config.Profiles()) {
		t.Fatalf("%d profiles, %v:\n%s", len(all), err, out)
	}
	_, out, _ = checkCommand(t, "payers", "profiles", "ab2d", "--output", "json")
	var one config.Profile
	if err := json.Unmarshal([]byte(out), &one); err != nil || !reflect.DeepEqual(one, all[0]) {
		t.Errorf("%v: got %+v\nwant %+v", err, one, all[0])
	}
	want := config.Setting{Key: "limits.downloads_per_file", Value: "6", Reason: "After six whole reads of a file it answers 500."}
	found := false
	for _, s := range one.Settings {
		found = found || s == want
	}
	if !found {
		t.Errorf("%+v is not among %+v", want, one.Settings)
	}
}

func TestPayers_says_what_is_wrong_with_how_it_was_called(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"profiles", "bdca"}, `there is no profile "bdca": did you mean bcda?`},
		{[]string{"profiles", "bcda", "ab2d"}, "expected one profile"},
		{[]string{"profiles", "--output", "xml"}, "expected table, json or csv"},
		{[]string{"list", "--output", "xml"}, "expected table, json or csv"},
		{[]string{"list", "--config", "/nonexistent/ingestd.yaml"}, "cannot be read"},
	} {
		code, out, errs := checkCommand(t, append([]string{"payers"}, test.args...)...)
		if code != exitUsage || !strings.Contains(errs, test.want) || out != "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want %d and %q", test.args, code, out, errs, exitUsage, test.want)
		}
	}
}

func TestPayersList_tells_what_is_configured(t *testing.T) {
	t.Parallel()
	name := writeConfig(t, `
database: {url: env:DATABASE_URL}
payers:
  - name: medicare
    profile: bcda
    fhir_url: https://bcda.example/api/v2
    auth: {client_id: x, client_secret: env:SECRET}
    schedule: "@daily"
  - {name: idle, fhir_url: "http://127.0.0.1:8180/fhir", auth: {method: none}, enabled: false}
`)
	code, out, _ := checkCommand(t, "payers", "list", "--config", name)
	var rows []string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"PAYER ENABLED PROFILE AUTH EXPORT SCHEDULE FHIR URL",
		"medicare true bcda client_secret_basic group all, all types @daily https://bcda.example/api/v2",
		"idle false - none system, all types - http://127.0.0.1:8180/fhir",
	}
	if code != exitDone || !reflect.DeepEqual(rows, want) {
		t.Errorf("exit %d, got\n%s", code, out)
	}
	_, out, _ = checkCommand(t, "payers", "list", "--config", name, "--output", "json")
	var listed []listedPayer
	if err := json.Unmarshal([]byte(out), &listed); err != nil || len(listed) != 2 || listed[0].Profile != "bcda" ||
		listed[0].GroupID != "all" || listed[1].Enabled || listed[0].Source != name+":4" {
		t.Errorf("%v: %+v\n%s", err, listed, out)
	}
	_, out, _ = checkCommand(t, "check", "--config", name)
	if !strings.Contains(out, "bcda, sets auth.method export.level export.group_id") {
		t.Errorf("check does not tell what the profile sets:\n%s", out)
	}
}
