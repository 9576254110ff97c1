package docs

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write what commands and queries print into the pages that show something else")

// strangersPath is the page whose commands are executed as they stand, from nothing: stranger_test.go.
const strangersPath = "docs/getting-started.md"

func TestDocs_every_command_and_query_works_and_prints_what_the_page_shows(t *testing.T) {
	t.Parallel()
	all := pages(t)
	ran, notRun := 0, 0
	for _, p := range all {
		for _, b := range p.blocks {
			switch {
			case b.executed():
				ran++
			case b.notRun != "":
				notRun++
			}
		}
	}
	t.Logf("%d blocks are executed, %d are not, with a reason", ran, notRun)
	if ran < 50 || notRun > ran/2 {
		t.Errorf("%d blocks are executed, and %d are not: expected more that are", ran, notRun)
	}
	for _, p := range all {
		t.Run(strings.TrimSuffix(p.name, ".md"), func(t *testing.T) {
			t.Parallel()
			withKey, executed := true, false
			for _, b := range p.blocks {
				if wrong := b.unknown(); wrong != "" {
					t.Errorf("%s: %s", b, wrong)
				}
				if b.notRun != "" {
					t.Logf("not run: %s: %s", b, b.notRun)
				}
				executed = executed || b.executed()
				if b.executed() && strings.Contains(b.text, "--out "+keyFile) {
					withKey = false
				}
			}
			if _, err := exec.LookPath("curl"); err != nil && p.uses("curl ") {
				t.Skip("NOTICE: curl is not installed; what this page shows is not tested")
			}
			if executed && p.name != strangersPath && !t.Failed() {
				s := newSite(t, withKey)
				if p.daemon {
					s.serve()
				}
				s.execute(p)
			}
		})
	}
}

// uses reports whether a block that is executed names a program.
func (p *page) uses(program string) bool {
	return slices.ContainsFunc(p.blocks, func(b *block) bool { return b.executed() && strings.Contains(b.text, program) })
}

// executed says whether a block is put into the script of its page.
func (b *block) executed() bool { return (b.lang == "sh" || b.lang == "sql") && b.notRun == "" }

// unknown says what is wrong with a block that none of the tests would look at.
func (b *block) unknown() string {
	switch b.lang {
	case "sh", "sql", "yaml", "json", "go", "text":
		return ""
	case "":
		// The command reference is written by the commands, whose own tests type the examples.
		if b.page == "docs/cli.md" {
			return ""
		}
		return "code without a language: expected a fence with sh, sql, yaml, json, go or text"
	}
	if b.notRun == "" {
		return fmt.Sprintf("nothing is known of %s blocks: put <!-- not run: REASON --> before it", b.lang)
	}
	return ""
}

// idle waits for the exports that the daemon is at, which a page starts or which follow from one, like that of a group's newcomers: a reader of
// the page does not type the next command within the same second.
const idle = `until [ "$(psql -XAt "$DATABASE_URL" -c "SELECT count(*) FROM ingest.export WHERE state NOT IN ('published', 'failed', 'canceled', 'held')")" = 0 ]
do sleep 0.1; done
`

// execute runs the blocks of a page in one shell, in their order, and compares what they print with what the page shows.
func (s *site) execute(p *page) {
	s.t.Helper()
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for i, b := range p.blocks {
		if !b.executed() {
			continue
		}
		fmt.Fprintf(&script, "echo %d >\"$OUT/at\"; exec >\"$OUT/%d\"\n", i, i)
		code := s.here(b.text)
		if b.lang == "sql" {
			code = "psql -X -v ON_ERROR_STOP=1 \"$DATABASE_URL\" <<'END OF SQL'\n" + code + "END OF SQL\n"
		}
		if b.exit != 0 {
			fmt.Fprintf(&script, "set +e; (\n%s\n); code=$?; set -e; [ $code = %d ] || { echo \"exit code $code, want %d\" >&2; exit 1; }\n",
				code, b.exit, b.exit)
		} else {
			script.WriteString(code + "\n[ $? = 0 ] || exit 1\n") // set -e lets a failure within && pass
		}
		if strings.Contains(b.text, "payersim ") && strings.Contains(b.text, "&\n") {
			fmt.Fprintf(&script, "until (exec 3<>/dev/tcp/%s) 2>/dev/null; do sleep 0.1; done\n", strings.Replace(s.own, ":", "/", 1))
		}
		if s.stranger {
			continue
		}
		if p.daemon {
			script.WriteString(idle)
		}
		// A payer takes the keys that it is given.
		script.WriteString("if ingestd keys jwks --config \"$INGESTD_CONFIG\" >\"$OUT/jwks\" 2>/dev/null; then cp \"$OUT/jwks\" \"$OUT/registered.json\"; fi\n")
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.Env = s.path("work"), append(s.env(), "OUT="+s.path("out"))
	stderr, err := os.Create(s.path("out/stderr"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = stderr.Close() }()
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what the page leaves in the background ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	s.t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	failure := cmd.Run()
	for i, b := range slices.Backward(p.blocks) { // so that what is written moves nothing that is still to be written
		out, err := os.ReadFile(s.path(fmt.Sprintf("out/%d", i)))
		if err != nil {
			continue // not executed, or not reached
		}
		if i+1 < len(p.blocks) && p.blocks[i+1].output {
			if got := s.there(string(out)); !matches(p.blocks[i+1].text, got) {
				if *update && p.blocks[i+1].start >= 0 {
					p.blocks[i+1].write(s.t, got)
					continue
				}
				s.t.Errorf("%s prints\n%s\nand %s shows\n%s", b, got, p.blocks[i+1], p.blocks[i+1].text)
			}
		}
	}
	if failure != nil {
		at, _ := os.ReadFile(s.path("out/at"))
		said, _ := os.ReadFile(s.path("out/stderr"))
		printed, _ := os.ReadFile(s.path("out/" + string(bytes.TrimSpace(at))))
		var n int
		_, _ = fmt.Sscan(string(at), &n)
		s.t.Errorf("%s: %v\n%s\n%s%s", p.blocks[n], failure, p.blocks[n].text, printed, said)
	}
}

// write puts another text into the place of a block's.
func (b *block) write(t *testing.T, text string) {
	t.Helper()
	name := filepath.Join(root, b.page)
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var trimmed strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, " \n") + "\n") {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	source = slices.Concat(source[:b.start], []byte(trimmed.String()), source[b.start+len(b.text):])
	if err := os.WriteFile(name, source, 0o600); err != nil {
		t.Fatal(err)
	}
}

// matches reports whether an output is as a page shows it: … stands for anything in its line, and a line of … for any number of lines.
func matches(shown, got string) bool {
	var pattern strings.Builder
	pattern.WriteString("^")
	for line := range strings.Lines(strings.TrimSpace(shown) + "\n") {
		line = strings.TrimRight(line, " \n")
		if line == "…" {
			pattern.WriteString("(?:.*\n)*")
			continue
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + " *\n")
	}
	pattern.WriteString("$")
	// Leading blanks of the first line are the form's, not the text's.
	return regexp.MustCompile(pattern.String()).MatchString(strings.TrimSpace(got) + "\n")
}

func TestMatches_compares_all_but_what_is_left_out(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shown, got string
		want       bool
	}{
		{"a\nb\n", "a  \nb\n\n", true},
		{"a\n", "a\nb\n", false},
		{"a\n…\nd\n", "a\nb\nc\nd\n", true},
		{"a\n…\n", "a\n", true},
		{"took … s\n", "took 12 s\n", true},
		{"took … s\n", "took 12 m\n", false},
		{"(1 row)\n", "1 row\n", false},
	} {
		if got := matches(c.shown, c.got); got != c.want {
			t.Errorf("%q shown, %q printed: got %t, want %t", c.shown, c.got, got, c.want)
		}
	}
}

func TestDocs_every_page_is_in_the_index(t *testing.T) {
	t.Parallel()
	index, err := parse("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"README.md": true}
	for _, l := range index.links {
		listed[l.to] = true
	}
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !listed[filepath.Base(name)] {
			t.Errorf("docs/README.md does not list %s", filepath.Base(name))
		}
	}
}
