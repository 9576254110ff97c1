package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ingestd/internal/config"
)

// checkCommand runs the command line in this process.
func checkCommand(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ingestd.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const twoPayers = `
database: {url: "postgres://ingestd:HUNTER2@db.example/fhir?sslmode=require&password=HUNTER2"}
keys:
  - {id: k1, private_key: file:k1.pem}
  - {id: k2, private_key: env:K2, state: published}
payers:
  - name: bluecross
    fhir_url: https://fhir.bluecross.example/r4
    auth: {client_id: ingestd-prod}
    export:
      level: group
      group_id: 42
      types: [Patient, Coverage]
      full_schedule: "0 3 1 * *"
      headers: {X-Api-Key: HUNTER2}
    schedule: "0 2 * * *"
    timezone: America/New_York
  - name: unitedcare
    fhir_url: https://bulk.unitedcare.example/fhir
    enabled: false
    auth: {method: client_secret_basic, client_id: x, client_secret: env:UNITEDCARE_SECRET}
    export: {since: never}
    schedule: "@every 6h"
  - name: idle
    fhir_url: http://127.0.0.1:8180/fhir
    auth: {method: none}
`

func TestCheck_says_that_a_configuration_is_valid_and_what_it_does(t *testing.T) {
	t.Parallel()
	name := writeConfig(t, twoPayers)
	code, stdout, stderr := checkCommand(t, "check", "--config", name)
	if code != exitDone || stderr != "" {
		t.Fatalf("got exit code %d and on stderr %q", code, stderr)
	}
	for _, want := range []string{
		name, "postgres://ingestd:xxxxx@db.example/fhir, schema fhir", "listens on 127.0.0.1:8090",
		"k1  active  file:" + filepath.Dir(name) + "/k1.pem  signs for 1 payer", "k2  published  env:K2\n",
		"private_key_jwt as ingestd-prod, signed with key k1", "group 42, Patient Coverage", "0 2 * * * (America/New_York)",
		"system, all types, always in full", "secret from env:UNITEDCARE_SECRET", "none: the payer is not enabled",
		"none: runs only by 'ingestd run idle'", "\nconfiguration is valid\n",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not told; got:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "HUNTER2") {
		t.Errorf("a secret is printed:\n%s", stdout)
	}
}

func TestCheck_tells_the_next_runs_in_the_timezone_of_the_payer(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("test", []byte(twoPayers))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printSummary(&out, c, time.Date(2026, 10, 30, 12, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	// On 2026-11-01, New York goes back to standard time.
	for _, want := range []string{
		"Sat 2026-10-31 02:00:00 EDT, Sun 2026-11-01 02:00:00 EST, Mon 2026-11-02 02:00:00 EST", "Sun 2026-11-01 03:00:00 EST, Tue 2026-12-01",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not told; got:\n%s", want, out.String())
		}
	}
}

func TestCheck_tells_every_problem_on_a_line_and_exits_with_2(t *testing.T) {
	t.Parallel()
	name := writeConfig(t, `database: {url: env:DATABASE_URL}
keys: [{id: k1, private_key: HUNTER2}]
payers:
  - name: bluecross
    fhir_ulr: https://fhir.bluecross.example/r4
    auth: {client_id: x}
    limits: {downloads: four}
`)
	code, stdout, stderr := checkCommand(t, "check", "--config", name)
	if code != exitUsage || stdout != "" {
		t.Errorf("got exit code %d and on stdout %q, want %d and nothing", code, stdout, exitUsage)
	}
	want := []string{
		"ingestd: the configuration cannot be used: 4 problems",
		name + ":2: keys[0].private_key: expected a reference such as env:NAME, file:/path or credential:NAME: " +
			"a secret is never written into the configuration",
		name + ":4: payers[0].fhir_url: is missing: expected the payer's FHIR base URL",
		name + ":5: payers[0].fhir_ulr: unknown key: did you mean fhir_url?",
		name + `:7: payers[0].limits.downloads: expected a whole number, got "four"`,
	}
	if got := strings.Split(strings.TrimSpace(stderr), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if code, _, stderr := checkCommand(t, "check", "--config", "/nonexistent/ingestd.yaml"); code != exitUsage ||
		!strings.Contains(stderr, "/nonexistent/ingestd.yaml: cannot be read: no such file or directory") {
		t.Errorf("a file that does not exist: got exit code %d and %q", code, stderr)
	}
}

func TestCheck_prints_a_configuration_that_is_read_again(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := checkCommand(t, "check", "--print", "--config", writeConfig(t, twoPayers))
	if code != exitDone || stderr != configurationIsValid+"\n" {
		t.Fatalf("got exit code %d and on stderr %q", code, stderr)
	}
	if strings.Contains(stdout, "HUNTER2") {
		t.Errorf("a secret is printed:\n%s", stdout)
	}
	c, err := config.Parse("printed", []byte(stdout))
	if err != nil {
		t.Fatalf("the printed configuration is not read: %v\n%s", err, stdout)
	}
	if len(c.Payers) != 3 || c.Payers[0].Auth.Key != "k1" || c.Payers[0].Limits.Downloads != 4 {
		t.Errorf("defaults are not in the printed configuration:\n%s", stdout)
	}
}

func TestCheck_takes_the_file_that_INGESTD_CONFIG_names(t *testing.T) {
	t.Setenv("INGESTD_CONFIG", writeConfig(t, twoPayers))
	if code, _, stderr := checkCommand(t, "check"); code != exitDone {
		t.Errorf("got exit code %d and %q", code, stderr)
	}
}

func TestCheck_accepts_the_example_of_the_product(t *testing.T) {
	t.Parallel()
	code, _, stderr := checkCommand(t, "check", "--config", "../../deployments/config/ingestd.example.yaml")
	if code != exitDone {
		t.Errorf("got exit code %d and %q", code, stderr)
	}
}

func TestSchema_prints_the_schema_of_this_version(t *testing.T) {
	t.Parallel()
	code, stdout, _ := checkCommand(t, "schema")
	documented, err := os.ReadFile("../../docs/ingestd.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if code != exitDone || stdout != string(documented) {
		t.Errorf("got exit code %d, and not the schema of docs/ingestd.schema.json", code)
	}
}
