package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// everyCommand lists the commands of the tree, the root first.
func everyCommand() []*cobra.Command {
	var all []*cobra.Command
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand(io.Discard))
	return all
}

// golden compares text with a file, or writes it there.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: write it by 'go test ./cmd/ingestd -update', and read it", err)
	}
	if string(want) == got {
		return
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(wantLines), len(gotLines)) {
		if i >= len(wantLines) || i >= len(gotLines) || wantLines[i] != gotLines[i] {
			t.Errorf("%s, line %d:\ngot  %q\nwant %q\n'go test ./cmd/ingestd -update' takes what is there now; all that came:\n%s", path, i+1,
				append(gotLines, "")[min(i, len(gotLines))], append(wantLines, "")[min(i, len(wantLines))], got)
			return
		}
	}
}

func TestHelp_of_every_command_is_as_it_was_agreed(t *testing.T) {
	t.Parallel()
	const dir = "testdata/help"
	var files []string
	for _, cmd := range everyCommand() {
		path := strings.Fields(cmd.CommandPath())
		name := strings.Join(path, "_") + ".golden"
		files = append(files, name)
		code, stdout, stderr := checkCommand(t, append(path[1:], "--help")...)
		if code != exitDone || stderr != "" {
			t.Errorf("%s --help: exit %d, %q", cmd.CommandPath(), code, stderr)
		}
		golden(t, filepath.Join(dir, name), stdout)
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: a short description without a full stop is missing: %q", cmd.CommandPath(), cmd.Short)
		}
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if !slices.Contains(files, file.Name()) {
			t.Errorf("%s/%s belongs to no command: remove it", dir, file.Name())
		}
	}
}

func TestReference_docs_cli_md_is_what_the_commands_are(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`# Commands

<!-- Written by 'go test ./cmd/ingestd -run Reference -update' from the commands themselves: edit those. -->

All commands, as ` + "`ingestd help COMMAND`" + ` shows them; ` + "`make man`" + ` makes manual pages of them. ` + "`ingestd completion SHELL`" + ` prints a script that
completes commands, flags, names of payers and numbers of exports.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or refused in the state that things are in |
| 2 | wrong arguments, or a configuration that cannot be used |

` + "`--output`" + ` takes ` + "`table`" + `, ` + "`json`" + ` or ` + "`csv`" + ` where a command lists; ` + "`text`" + ` is another name for the form for the eye. CSV has the members of the JSON
as columns; those of a member within are joined by ` + "`_`" + `. Whatever a payer sent is shown without what would move a terminal.

`)
	for _, cmd := range everyCommand() {
		top := strings.Fields(cmd.CommandPath())
		if len(top) == 1 || cmd.Hidden || top[1] == "completion" && len(top) > 2 {
			continue
		}
		describeCommand(&b, cmd)
	}
	golden(t, "../../docs/cli.md", strings.TrimRight(b.String(), "\n")+"\n")
}

// describeCommand writes a command's section of the reference.
func describeCommand(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "%s `%s`\n\n%s.\n\n", strings.Repeat("#", len(strings.Fields(cmd.CommandPath()))), cmd.CommandPath(), cmd.Short)
	if cmd.HasAvailableSubCommands() {
		return
	}
	fmt.Fprintf(b, "    %s\n\n", cmd.UseLine())
	if cmd.Long != "" && cmd.Long != cmd.Short {
		fmt.Fprintf(b, "%s\n\n", strings.TrimSpace(cmd.Long))
	}
	cmd.InitDefaultHelpFlag()
	rows := 0
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if rows++; rows == 1 {
			b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		standard := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" && f.DefValue != "0s" {
			standard = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.ReplaceAll(name, "|", `\|`), standard, strings.ReplaceAll(usage, "\n", " "))
	})
	if rows > 0 {
		b.WriteString("\n")
	}
	if cmd.Example != "" {
		for line := range strings.SplitSeq(strings.TrimRight(cmd.Example, "\n"), "\n") {
			fmt.Fprintf(b, "    %s\n", strings.TrimPrefix(line, "  "))
		}
		b.WriteString("\n")
	}
}

func TestMan_writes_a_page_for_each_command(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man1")
	if code, _, stderr := checkCommand(t, "man", dir); code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, cmd := range everyCommand() {
		if cmd.Hidden || cmd.Name() == "help" {
			continue
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), ".SH NAME") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
