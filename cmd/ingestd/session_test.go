package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ingestd/internal/payersim"
)

func TestSession_from_a_key_to_a_migrated_database(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	term.note("Before there is a configuration")
	term.types(exitUsage, "check")
	term.types(exitUsage, "status")
	term.types(exitDone, "keys", "generate", "--out", term.dir+"/new.pem", "--kid", "2026-11")
	term.types(exitUsage, "keys", "generate", "--out", term.dir+"/new.pem")
	term.types(exitUsage, "keys", "generate")
	term.types(exitDone, "keys", "jwks", "--key", term.dir+"/new.pem")
	term.types(exitUsage, "keys", "jwks", "--config", "")

	term.note("Wrong in three ways")
	term.write("ingestd.yaml", "database: {url: 12}\npayer: []\npayers: [{name: 'Blue Cross', fhir_url: nowhere}]\n")
	term.types(exitUsage, "check")

	term.note("Configured")
	term.configure(`admin: {listen: "127.0.0.1:1"}`, [3]string{"bluecross", "http://127.0.0.1:8180/fhir", `, schedule: "0 2 * * *", profile: hapi`},
		[3]string{"summit", "http://127.0.0.1:8180/fhir", ", enabled: false"})
	if code, stdout, stderr := term.run("check", "--print"); code != exitDone || !strings.Contains(stdout, "bluecross") {
		t.Errorf("check --print: exit %d, %s%s", code, stdout, stderr)
	}
	for _, output := range []string{"table", "text", "json", "csv"} {
		term.types(exitDone, "payers", "list", "--output", output)
		term.types(exitDone, "keys", "list", "--output", output)
	}
	term.types(exitUsage, "keys", "list", "--config", "")
	term.types(exitDone, "payers", "profiles", "hapi")
	term.types(exitUsage, "payers", "profiles", "hapy")
	term.types(exitFailed, "healthcheck")
	term.types(exitFailed, "healthcheck", "--ready")
	term.types(exitUsage, "doctor", "nobody")

	term.note("A database without a schema")
	term.types(exitFailed, "status")
	term.types(exitFailed, "exports", "list")
	term.types(exitFailed, "quarantine", "list")
	term.types(exitFailed, "run", "bluecross", "--detach")
	if code, _, stderr := term.run("serve", "--skip-migrations"); code != exitFailed || !strings.Contains(stderr, "run 'ingestd migrate up'") {
		t.Errorf("serve on a database that is not migrated: exit %d, %s", code, stderr)
	}
	if code, stdout, _ := term.run("migrate", "status", "--output", "csv"); code != exitDone || !strings.Contains(stdout, "\n5,audit,\n") {
		t.Errorf("exit %d, the migrations are not listed:\n%s", code, stdout)
	}
	term.types(exitDone, "migrate", "up")
	term.types(exitDone, "migrate", "up")
	term.types(exitDone, "migrate", "status")
	term.types(exitUsage, "migrate", "roles")
	term.types(exitUsage, "migrate", "roles", "--ingest", "ingestd_ingest", "--reader-history")
	term.types(exitDone, "migrate", "roles", "--ingest", "ingestd_ingest", "--reader", "ingestd_reader", "--print")
	if code, stdout, _ := term.run("audit", "list", "--action", "migrate", "--output", "csv"); code != exitDone || !strings.Contains(stdout, ",migrate,schema 0005_audit,\n") {
		t.Errorf("exit %d, who migrated is not known:\n%s", code, stdout)
	}
	term.forgetMigrations()
	term.types(exitDone, "audit", "list", "--output", "json")
	term.types(exitDone, "audit", "export", "--since", "1h")
	term.types(exitDone, "audit", "export", "--since", "1h", "--output", "csv")
	term.types(exitUsage, "audit", "export")
	term.types(exitUsage, "audit", "prune")
	term.types(exitUsage, "audit", "prune", "--before", "24h")
	term.types(exitFailed, "audit", "prune", "--before", "2026-01-01")
	term.types(exitFailed, "audit", "prune", "--before", "2100-01-01T00:00:00Z", "--force")
	term.types(exitDone, "audit", "prune", "--before", "2000-01-01")
	term.types(exitDone, "status")
	term.types(exitDone, "exports", "list")
	term.types(exitDone, "exports", "list", "--output", "json")
	term.types(exitDone, "exports", "list", "--output", "csv")

	term.note("Webhooks")
	term.configure(fmt.Sprintf("notify: [{name: taken, url: %q}, {name: refused, url: %q}]", term.hook(http.StatusNoContent), term.hook(http.StatusForbidden)))
	term.types(exitDone, "notify", "test", "taken")
	term.types(exitFailed, "notify", "test", "refused", "--event", "stale")
	term.types(exitUsage, "notify", "test", "nobody")
	term.types(exitUsage, "notify", "test", "taken", "--event", "rain")
	term.compare("set-up")
}

// badLine is a line that no JSON parser takes, and that turns a terminal red.
const badLine = "{\"resourceType\":\"Patient\",\"id\":\"1\",\"name\":\"Secret\x1b[31m\""

func TestSession_of_an_export_in_the_foreground(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	url := term.payer(payersim.Options{Patients: 4, Seed: 3, Changes: 0.3, Faults: payersim.Faults{
		BadLines: []payersim.BadLine{{Type: "Patient", AfterLine: 3, Raw: badLine}},
	}})
	term.configure("", [3]string{"bluecross", url, ""}, [3]string{"summit", url, ", enabled: false"})
	if code, _, stderr := term.run("migrate", "up"); code != exitDone {
		t.Fatal(stderr)
	}
	term.forgetMigrations()
	term.types(exitDone, "run", "bluecross")
	term.types(exitDone, "run", "bluecross", "--output", "json")
	term.types(exitDone, "exports", "list")
	term.types(exitDone, "exports", "list", "--state", "published", "--limit", "1", "--output", "json")
	term.types(exitDone, "exports", "list", "--payer", "bluecross", "--output", "csv")
	term.types(exitDone, "exports", "show", "1")
	term.types(exitDone, "exports", "show", "2", "--output", "json")
	term.types(exitFailed, "exports", "show", "4711")
	term.types(exitDone, "exports", "certificate", "1")
	term.types(exitFailed, "exports", "certificate", "4711")
	for _, output := range []string{"table", "json", "csv"} {
		term.types(exitDone, "status", "--output", output)
		term.types(exitDone, "quarantine", "list", "--export", "1", "--output", output)
	}
	term.types(exitDone, "quarantine", "show", "1")
	term.types(exitFailed, "quarantine", "show", "4711")
	term.types(exitUsage, "quarantine", "show", "first")
	term.types(exitDone, "quarantine", "retry", "1")
	term.types(exitDone, "quarantine", "retry", "2", "--output", "json")
	term.types(exitFailed, "quarantine", "retry", "4711")
	term.types(exitDone, "doctor", "bluecross")
	term.types(exitDone, "doctor", "bluecross", "--output", "csv")
	term.types(exitDone, "psql", "--", "-A", "-c", "SELECT payer, count(*) FROM fhir.patient GROUP BY payer")
	term.types(exitUsage, "indexes", "build")
	term.index("{name: updated, types: [Patient], columns: last_updated}")
	term.types(exitUsage, "indexes", "build", "nobody")
	term.types(exitDone, "indexes", "build", "bluecross")
	term.types(exitDone, "indexes", "build")
	term.index("{name: wrong, columns: no_such_column}")
	term.types(exitFailed, "indexes", "build", "bluecross")
	term.types(exitUsage, "payers", "remove", "bluecross")
	term.configure("", [3]string{"summit", url, ""})
	term.types(exitUsage, "payers", "remove", "bluecross")
	term.types(exitDone, "payers", "remove", "bluecross", "--yes", "--output", "json")
	term.types(exitFailed, "payers", "remove", "bluecross", "--yes")
	term.types(exitFailed, "exports", "show", "1")
	term.types(exitDone, "audit", "list")
	term.compare("foreground")
}

func TestSession_of_control_where_no_daemon_runs(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	term.configure("", [3]string{"bluecross", "http://127.0.0.1:8180/fhir", `, schedule: "@yearly"`}, [3]string{"summit", "http://127.0.0.1:8180/fhir", ""})
	if code, _, stderr := term.run("migrate", "up"); code != exitDone {
		t.Fatal(stderr)
	}
	term.forgetMigrations()
	controlSession(term)
	term.types(exitDone, "explain", "ghost_guard")
	term.types(exitDone, "explain", "ingestdpayerstale")
	term.compare("control")
}

// control types all commands that change an export or a payer, right and wrong.
func controlSession(term *terminal, more ...string) {
	types := func(want int, args ...string) { term.types(want, append(args, more...)...) }
	types(exitDone, "run", "bluecross", "--detach", "--full")
	term.sql("UPDATE ingest.export SET waiting = true WHERE id = 1")
	types(exitDone, "exports", "list", "--state", "waiting")
	types(exitDone, "exports", "list", "--state", "starting", "--output", "csv")
	types(exitDone, "exports", "show", "1")
	types(exitDone, "status")
	term.sql("UPDATE ingest.export SET waiting = false WHERE id = 1")
	term.sql("UPDATE ingest.export SET trouble_at = now(), trouble_code = 'server_error', trouble = 'kick-off: HTTP 503', trouble_hint = 'ask the payer' WHERE id = 1")
	types(exitDone, "exports", "show", "1")
	types(exitDone, "status")
	types(exitDone, "exports", "list", "--state", "waiting")
	types(exitDone, "run", "summit", "--detach", "--since", "2026-01-02T03:04:05Z", "--output", "json")
	types(exitFailed, "run", "summit", "--detach")
	types(exitUsage, "run", "nobody", "--detach")
	types(exitDone, "exports", "cancel", "1")
	types(exitFailed, "exports", "cancel", "1")
	types(exitFailed, "exports", "cancel", "4711")
	types(exitDone, "exports", "retry", "1")
	types(exitFailed, "exports", "retry", "1")
	types(exitFailed, "exports", "release", "3")
	types(exitFailed, "exports", "reject", "3")
	term.sql("UPDATE ingest.export SET state = 'held', error_code = 'ghosts', error = 'too many' WHERE id IN (2, 3)")
	types(exitDone, "exports", "list", "--state", "held")
	types(exitDone, "status")
	types(exitDone, "exports", "release", "2")
	types(exitDone, "exports", "reject", "3")
	types(exitFailed, "exports", "reject", "3")
	types(exitDone, "pause", "bluecross")
	types(exitDone, "pause", "bluecross")
	types(exitDone, "pause", "--all")
	types(exitUsage, "pause", "nobody")
	types(exitUsage, "exports", "list", "--payer", "nobody")
	types(exitUsage, "quarantine", "list", "--payer", "nobody")
	types(exitDone, "quarantine", "list", "--payer", "summit")
	types(exitDone, "status")
	types(exitDone, "resume", "summit")
	types(exitDone, "resume", "--all")
	types(exitDone, "resume", "--all")
	types(exitDone, "exports", "show", "3")
	types(exitDone, "audit", "list")
	types(exitDone, "audit", "list", "--since", "1h", "--object", "export 1", "--output", "csv")
	types(exitDone, "audit", "list", "--all")
	types(exitDone, "audit", "export", "--since", "1h")
	types(exitDone, "audit", "export", "--since", "1h", "--until", "2100-01-01T00:00:00Z", "--output", "csv")
	types(exitUsage, "audit", "export", "--since", "1h", "--until", "tomorrow")
	types(exitDone, "audit", "list", "--since", "2100-01-01T00:00:00Z", "--output", "json")
	term.sql("DELETE FROM ingest.export WHERE id = 1") // as pruning does
	types(exitFailed, "exports", "show", "1")
	types(exitFailed, "exports", "certificate", "1", "--output", "json")
}

func TestUsage_errors_say_what_was_expected_and_exit_with_2(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	term.configure("", [3]string{"bluecross", "http://127.0.0.1:8180/fhir", ""})
	for _, args := range []string{
		"exprots", "exports lst", "version now", "--nothing", "exports list all", "exports list --output xml", "exports list --limit 0",
		"exports list --state helt", "exports show", "exports show first", "exports show 1 2", "exports cancel 0", "exports retry -1",
		"exports release", "exports reject x", "exports certificate x", "run", "run bluecross --since yesterday",
		"run bluecross --full --since 2026-01-01T00:00:00Z", "run bluecross --output csv", "run bluecross --server http://127.0.0.1:1",
		"run nobody", "status now", "status --watch --output csv", "status --interval 1ms", "status --server nowhere", "pause", "pause bluecross --all", "pause a b", "resume",
		"resume nobody --all", "audit list --since yesterday", "audit list --limit many", "quarantine list --limit 0", "quarantine retry x",
		"payers remove", "payers profiles a b", "doctor a b", "doctor --output xml", "migrate down", "migrate up now", "serve now", "check now",
		"schema now", "healthcheck now", "demo now", "payersim", "payersim --client x", "help nothing", "completion tcsh", "completion bash now", "man",
		"keys list now", "explain no_such_code", "explain internal postgres",
	} {
		term.types(exitUsage, strings.Fields(args)...)
	}
	term.compare("usage")
}

func TestSession_with_a_daemon_by_its_admin_API(t *testing.T) {
	t.Setenv(tokenVariable, "secret")
	term := newTerminal(t)
	url := term.payer(payersim.Options{Patients: 4, Seed: 3, Faults: payersim.Faults{
		BadLines: []payersim.BadLine{{Type: "Patient", AfterLine: 1, Raw: `{"resourceType":"Patient","id":`}},
	}})
	term.write("token", "secret")
	term.configure(`admin: {listen: "127.0.0.1:0", token: "file:`+term.dir+`/token"}`, [3]string{"bluecross", url, ""})
	_, log, stop := term.background("serve")
	address := regexp.MustCompile(`"admin listener","address":"([^"]+)"`)
	term.eventually("the daemon", func() bool {
		return address.MatchString(log.String()) && strings.Contains(log.String(), "engine started")
	})
	server := "http://" + address.FindStringSubmatch(log.String())[1]
	types := func(want int, args ...string) { term.types(want, append(args, "--server", server)...) }

	term.forgetMigrations()
	types(exitDone, "status")
	types(exitDone, "run", "bluecross", "--detach")
	term.eventually("the publish", func() bool {
		_, out, _ := term.run("exports", "list", "--state", "published", "--output", "csv", "--server", server)
		return strings.Count(out, "\n") == 2
	})
	types(exitDone, "exports", "list")
	types(exitDone, "exports", "show", "1")
	types(exitDone, "status", "--output", "csv")
	types(exitFailed, "exports", "cancel", "1")
	term.types(exitDone, "instances", "list")
	types(exitDone, "instances", "list")
	types(exitDone, "quarantine", "list", "--payer", "bluecross")
	types(exitDone, "quarantine", "show", "1")
	types(exitDone, "quarantine", "show", "1", "--raw")
	types(exitFailed, "quarantine", "show", "4711")
	types(exitDone, "quarantine", "retry", "1")
	types(exitDone, "exports", "certificate", "1")
	types(exitUsage, "payers", "remove", "bluecross", "--yes")
	types(exitFailed, "payers", "remove", "nobody", "--yes")
	types(exitDone, "pause", "--all")
	types(exitDone, "resume", "bluecross")
	types(exitDone, "audit", "list", "--action", "pause", "--output", "json")
	t.Setenv(tokenVariable, "guess")
	types(exitFailed, "status")
	t.Setenv(tokenVariable, "")
	types(exitFailed, "pause", "--all")
	if code := stop(); code != exitDone {
		t.Errorf("serve: exit %d\n%s", code, log)
	}
	t.Setenv(tokenVariable, "secret")
	if code, _, stderr := term.run("status", "--server", server); code != exitFailed || !strings.Contains(stderr, "the daemon does not answer") {
		t.Errorf("a daemon that is gone: exit %d, %s", code, stderr)
	}
	term.compare("server")
}

// hostile is what a payer may send to take over a terminal: escape sequences, a C1 control, a right-to-left override, and more.
const hostile = `\u001b]0;owned\u0007\u001b[2J\u009b31m\u202Egnp.exe\u2028\u0000; DROP TABLE x;--' \"quoted\" =cmd|' /C calc'!A0`

func TestHostile_text_of_a_payer_cannot_move_the_terminal(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	body := `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","diagnostics":"` + hostile + `"}]}`
	refusing := term.payer(payersim.Options{Patients: 2, Seed: 1, Faults: payersim.Faults{
		KickOff: payersim.KickOffFaults{Answers: []payersim.Answer{{Times: -1, Status: 400, Body: body}}},
	}})
	working := term.payer(payersim.Options{Patients: 2, Seed: 1, Faults: payersim.Faults{
		BadLines: []payersim.BadLine{
			{Type: "Patient", AfterLine: 1, Raw: `{"resourceType":"` + hostile + `","id":"` + hostile + `"}`},
			{Type: "Patient", AfterLine: 1, Raw: "\x1b]0;owned\a\x1b[2J\u009b31m\u202egnp.exe\u2028\x00\xff"},
		},
	}})
	term.configure("", [3]string{"hostile", refusing, ""}, [3]string{"odd", working, ""})
	term.types(exitFailed, "run", "hostile")
	term.types(exitDone, "run", "odd")
	term.types(exitDone, "exports", "show", "1")
	for _, output := range []string{"table", "json", "csv"} {
		term.types(exitDone, "status", "--output", output)
		term.types(exitDone, "exports", "list", "--output", output)
		term.types(exitDone, "quarantine", "list", "--output", output)
	}
	term.types(exitDone, "exports", "show", "1", "--output", "json")
	term.types(exitDone, "quarantine", "show", "1")
	term.types(exitDone, "quarantine", "show", "2")
	term.types(exitUsage, "doctor", "hostile\x1b[31m")
	term.types(exitUsage, "pause", "no\x1b[31mbody")
	term.compare("hostile")
}

func TestSession_commands_are_all_typed(t *testing.T) {
	t.Parallel()
	// Why a command that does something is in no session.
	elsewhere := map[string]string{
		"ingestd demo":     "takes a minute; internal/demo tests it",
		"ingestd schema":   "docs/ingestd.schema.json is compared with it",
		"ingestd payersim": "payersim_test.go",
		"ingestd serve":    "runs in the sessions",
		"ingestd man":      "help_test.go", "ingestd help": "help_test.go", "ingestd version": "differs in every build",
		"ingestd completion bash": "cobra's", "ingestd completion fish": "cobra's", "ingestd completion zsh": "cobra's",
		"ingestd completion powershell": "cobra's",
	}
	var typed strings.Builder
	for _, name := range []string{"set-up", "foreground", "control", "server"} {
		text, err := os.ReadFile("testdata/" + name + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		typed.Write(text)
	}
	for _, cmd := range everyCommand() {
		path := cmd.CommandPath()
		if cmd.HasSubCommands() || elsewhere[path] != "" {
			continue
		}
		if !strings.Contains(typed.String(), "\n$ "+path) {
			t.Errorf("no session types %s", path)
		}
	}
}

func TestCompletion_knows_payers_exports_and_forms(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	term.configure("", [3]string{"bluecross", "http://127.0.0.1:8180/fhir", ""}, [3]string{"summit", "http://127.0.0.1:8180/fhir", ""})
	if code, _, stderr := term.run("migrate", "up"); code != exitDone {
		t.Fatal(stderr)
	}
	for _, payer := range []string{"bluecross", "summit"} {
		if code, _, stderr := term.run("run", payer, "--detach"); code != exitDone {
			t.Fatal(stderr)
		}
	}
	if code, _, stderr := term.run("exports", "cancel", "1"); code != exitDone {
		t.Fatal(stderr)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"run", ""}, []string{"bluecross", "summit"}},
		{[]string{"pause", "blue"}, []string{"bluecross"}},
		{[]string{"doctor", ""}, []string{"bluecross", "summit"}},
		{[]string{"exports", "list", "--payer", ""}, []string{"bluecross", "summit"}},
		{[]string{"exports", "show", ""}, []string{"2", "1"}},
		{[]string{"exports", "cancel", ""}, []string{"2"}},
		{[]string{"exports", "retry", ""}, []string{"1"}},
		{[]string{"exports", "release", ""}, nil},
		{[]string{"exports", "cancel", "2", ""}, nil},
		{[]string{"status", "--output", ""}, []string{"table", "json", "csv"}},
		{[]string{"payers", "profiles", "hap"}, []string{"hapi"}},
	} {
		line := append([]string{"__complete"}, test.args...)
		if usesConfig(test.args) {
			last := len(line) - 1
			if strings.HasPrefix(line[last-1], "--") {
				last--
			}
			line = append(append(append([]string{}, line[:last]...), "--config", term.config), line[last:]...)
		}
		code, out, _ := checkCommand(t, line...)
		var got []string
		for word := range strings.Lines(out) {
			word, _, _ = strings.Cut(strings.TrimSpace(word), "\t")
			if word != "" && !strings.HasPrefix(word, ":") && strings.HasPrefix(word, test.args[len(test.args)-1]) {
				got = append(got, word)
			}
		}
		if code != exitDone || strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%q: exit %d, got %q, want %q\n%s", test.args, code, got, test.want, out)
		}
	}
}

func TestCompletion_scripts_are_scripts(t *testing.T) {
	t.Parallel()
	code, script, stderr := checkCommand(t, "completion", "bash")
	if code != exitDone || len(script) < 1000 {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	check := exec.CommandContext(t.Context(), bash, "-n")
	check.Stdin = strings.NewReader(script)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStatus_watch_prints_a_block_for_each_change(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	term.configure("", [3]string{"bluecross", "http://127.0.0.1:8180/fhir", `, schedule: "@yearly"`})
	if code, _, stderr := term.run("migrate", "up"); code != exitDone {
		t.Fatal(stderr)
	}
	out, stderr, stop := term.background("status", "--watch", "--interval", "100ms")
	lines, _, stopJSON := term.background("status", "--watch", "--interval", "100ms", "--output", "json")
	blocks := func(n int) func() bool {
		return func() bool {
			return strings.Count(out.String(), "--- ") == n && strings.Count(lines.String(), "\n") == n
		}
	}
	term.eventually("the first block", blocks(1))
	for i, change := range [][]string{{"pause", "bluecross"}, {"run", "bluecross", "--detach"}, {"exports", "cancel", "1"}} {
		if code, _, stderr := term.run(change...); code != exitDone {
			t.Fatal(stderr)
		}
		term.eventually("block "+strconv.Itoa(i+2), blocks(i+2))
	}
	if code := stop() + stopJSON(); code != exitDone || stderr.String() != "" {
		t.Errorf("a watch that was stopped: exit %d, %s", code, stderr)
	}
	if text := out.String(); !strings.Contains(text, "paused by") || !strings.Contains(text, "starting") || !strings.Contains(text, "canceled") ||
		strings.Contains(text, "\x1b") {
		t.Errorf("got %s", text)
	}
}
