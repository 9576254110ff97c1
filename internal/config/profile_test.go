package config_test

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
)

const (
	profilesBegin = "<!-- profiles: written by `go test ./internal/config -update` -->\n"
	profilesEnd   = "<!-- end of the profiles -->\n"
)

// profiled parses a payer with this text behind its name and address.
func profiled(t *testing.T, defaults, payer string) config.Payer {
	t.Helper()
	text := head + defaults + "\npayers:\n  - name: one\n    fhir_url: https://one.example/r4\n" + payer
	return mustParse(t, text).Payers[0]
}

const basic = "    auth: {client_id: x, client_secret: env:SECRET}\n"

func TestProfiles_lie_beneath_what_the_payer_says_and_over_the_defaults(t *testing.T) {
	t.Parallel()
	defaults := "defaults: {limits: {poll_min: 2s, downloads: 3}, auth: {method: private_key_jwt}}"
	p := profiled(t, defaults, basic+"    profile: bcda\n    limits: {downloads: 5}\n")
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"the profile's over the built-in", p.Limits.RequestsPerSecond, 8.0},
		{"the profile's over the defaults'", []any{p.Limits.PollMin, p.Auth.Method}, []any{30 * time.Second, "client_secret_basic"}},
		{"the payer's over the profile's", p.Limits.Downloads, 5},
		{"several settings that belong together", p.Export.Level + "/" + p.Export.GroupID, "group/all"},
		{"and which of them are the profile's", p.FromProfile, []string{
			"auth.method", "export.level", "export.group_id", "export.method", "export.newcomers", "limits.requests_per_second",
			"limits.poll_min",
		}},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

func TestProfiles_that_the_defaults_name_lie_beneath_them(t *testing.T) {
	t.Parallel()
	defaults := "defaults: {profile: epic, limits: {poll_min: 2s}, auth: {client_id: x}}"
	p := profiled(t, defaults, "    export: {group_id: g}\n")
	if p.Limits.PollMin != 2*time.Second || p.Limits.PollMax != time.Hour || slices.Contains(p.FromProfile, "limits.poll_min") {
		t.Errorf("got poll_min %s, poll_max %s, from the profile %v", p.Limits.PollMin, p.Limits.PollMax, p.FromProfile)
	}
	p = profiled(t, defaults, "    profile: hapi\n")
	if p.Limits.PollMax != time.Minute || p.Export.Since != "auto" || p.Export.Level != "system" {
		t.Errorf("beside an own profile, that of the defaults says something: %+v", p)
	}
	if p = profiled(t, defaults, "    profile: \"\"\n"); p.Limits.PollMax != 5*time.Minute || p.FromProfile != nil {
		t.Errorf("a profile that is switched off says something: %+v", p)
	}
}

func TestProfiles_leave_out_a_setting_that_makes_no_sense_beside_another(t *testing.T) {
	t.Parallel()
	p := profiled(t, "", basic+"    profile: bcda\n    export: {level: patient}\n")
	if p.Export.GroupID != "" || slices.Contains(p.FromProfile, "export.group_id") {
		t.Errorf("level patient has group %q", p.Export.GroupID)
	}
	p = profiled(t, "defaults: {export: {level: patient}}", basic+"    profile: bcda\n")
	if p.Export.Level != "group" || p.Export.GroupID != "all" {
		t.Errorf("got level %s, group %q; want those of the profile, over the defaults", p.Export.Level, p.Export.GroupID)
	}
}

func TestProfiles_have_aliases(t *testing.T) {
	t.Parallel()
	text := "    auth: {client_id: x}\n    export: {group_id: g}\n    profile: "
	cerner, oracle := profiled(t, "", text+"cerner\n"), profiled(t, "", text+"oracle\n")
	cerner.Profile = oracle.Profile
	if !reflect.DeepEqual(cerner, oracle) {
		t.Errorf("cerner is %+v\noracle is %+v", cerner, oracle)
	}
}

func TestProfiles_are_named_in_errors_about_their_values(t *testing.T) {
	t.Parallel()
	one := "\npayers:\n  - name: one\n    fhir_url: https://one.example/r4\n    auth: {client_id: x}\n"
	for _, test := range []struct{ payer, want string }{
		{"    profile: cernel\n", `test.yaml:10: payers[0].profile: "cernel" is not known: expected one of ab2d, azure, bcda, cerner, dpc`},
		{"    profile: [bcda]\n", "test.yaml:10: payers[0].profile: expected a string, got a list"},
		{
			"    profile: epic\n    export: {group_id: g}\n    limits: {poll_max: 30s}\n",
			"test.yaml:12: payers[0].limits.poll_min: 1m is more than limits.poll_max, 30s: expected no more (the value is that of profile epic)",
		},
		{
			"    profile: bcda\n",
			"test.yaml:9: payers[0].auth.client_secret: is missing: method client_secret_basic expects a reference such as env:NAME",
		},
	} {
		got := problems(t, head+one+test.payer)
		if len(got) != 1 || !strings.HasPrefix(got[0].String(), test.want) {
			t.Errorf("got  %v\nwant %s", got, test.want)
		}
	}
}

// TestProfiles_can_be_used_by_naming_them loads each with no more than what only the operator knows.
func TestProfiles_can_be_used_by_naming_them(t *testing.T) {
	t.Parallel()
	for _, profile := range config.Profiles() {
		payer := fmt.Sprintf("    auth: {client_id: x, client_secret: env:SECRET}\n    profile: %s\n", profile.Name)
		if slices.ContainsFunc(profile.Settings, func(s config.Setting) bool { return s.Key == "export.level" && s.Value == "group" }) &&
			!slices.ContainsFunc(profile.Settings, func(s config.Setting) bool { return s.Key == "export.group_id" }) {
			payer += "    export: {group_id: g}\n"
		}
		p := profiled(t, "", payer)
		if len(profile.Settings) == 0 || len(p.FromProfile) != len(profile.Settings) {
			t.Errorf("%s: of %d settings, %v are in effect", profile.Name, len(profile.Settings), p.FromProfile)
		}
		seen := make(map[string]bool)
		for _, s := range profile.Settings {
			if seen[s.Key] || !strings.HasSuffix(s.Reason, ".") {
				t.Errorf("%s: %s stands twice, or without a reason", profile.Name, s.Key)
			}
			seen[s.Key] = true
		}
	}
	if names := config.ProfileNames(); !slices.IsSorted(names) || !slices.Contains(names, "cerner") || len(names) != 9 {
		t.Errorf("got the names %v", names)
	}
}

func TestDump_marks_what_a_profile_says_and_is_read_as_the_same(t *testing.T) {
	t.Parallel()
	text := head + `
payers:
  - name: one
    fhir_url: https://one.example/r4
    auth: {client_id: x, client_secret: env:SECRET, scopes: []}
    profile: ab2d
    export: {full_since: "", types: []}
`
	c := mustParse(t, text)
	dump, err := c.Dump()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"method: client_secret_basic # profile ab2d\n", "downloads_per_file: 6 # profile ab2d\n", "scopes: []\n", "full_since: \"\"\n",
		"types: []\n", "downloads: 4\n", "profile: ab2d\n",
	} {
		if !strings.Contains(string(dump), want) {
			t.Errorf("%q is not in the dump:\n%s", want, dump)
		}
	}
	again := mustParse(t, string(dump))
	got, want := again.Payers[0], c.Payers[0]
	got.Source, want.Source, got.FromProfile, want.FromProfile = "", "", nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestProfiles_are_those_of_the_documentation(t *testing.T) {
	t.Parallel()
	const name = "../../docs/profiles.md"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), profilesBegin)
	_, after, ended := strings.Cut(rest, profilesEnd)
	if !ok || !ended {
		t.Fatalf("%s does not hold %q and %q", name, profilesBegin, profilesEnd)
	}
	compareGolden(t, name, before+profilesBegin+"\n"+config.ProfileReference()+"\n"+profilesEnd+after)
}
