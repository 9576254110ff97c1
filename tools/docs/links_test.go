package docs

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDocs_every_link_leads_to_a_file_and_a_heading_that_are_there(t *testing.T) {
	t.Parallel()
	all := make(map[string]*page)
	for _, p := range pages(t) {
		all[p.name] = p
	}
	checked := 0
	for _, p := range all {
		for _, l := range p.links {
			u, err := url.Parse(l.to)
			if err != nil {
				t.Errorf("%s:%d: %v", p.name, l.line, err)
				continue
			}
			if u.Scheme != "" {
				continue // elsewhere
			}
			checked++
			target := p.name
			if u.Path != "" {
				target = path.Join(path.Dir(p.name), u.Path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s:%d: the link to %s leads nowhere", p.name, l.line, l.to)
				continue
			}
			if u.Fragment == "" {
				continue
			}
			to := all[target]
			if to == nil || !slices.Contains(to.anchors, u.Fragment) {
				t.Errorf("%s:%d: %s has no heading #%s", p.name, l.line, target, u.Fragment)
			}
		}
	}
	if checked < 50 {
		t.Errorf("checked %d links: expected more", checked)
	}
}

// inRepository is what looks like a path of the repository; what holds a placeholder does not.
var inRepository = regexp.MustCompile(`^(cmd|deployments|docs|internal|migrations|scripts|tools)/[A-Za-z0-9_./-]+$`)

func TestDocs_every_file_that_the_text_names_is_there(t *testing.T) {
	t.Parallel()
	for _, p := range pages(t) {
		for _, c := range p.code {
			if inRepository.MatchString(c.text) {
				if _, err := os.Stat(filepath.Join(root, c.text)); err != nil {
					t.Errorf("%s:%d: %s is not there", p.name, c.line, c.text)
				}
			}
		}
	}
}

// commands are the flags of each command, as the reference lists them.
func commands(t *testing.T) map[string][]string {
	t.Helper()
	reference, err := os.ReadFile(filepath.Join(root, "docs/cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{"ingestd": nil, "ingestd help": nil, "ingestd man": nil}
	heading := regexp.MustCompile("^##+ `(ingestd[a-z -]*)`$")
	flag := regexp.MustCompile("^\\| `(?:(-[a-z]), )?(--[a-z-]+)")
	current := ""
	for line := range strings.Lines(string(reference)) {
		if found := heading.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
			current = found[1]
			all[current] = []string{"--help"}
		} else if found := flag.FindStringSubmatch(line); found != nil {
			all[current] = append(all[current], found[1], found[2])
		}
	}
	return all
}

// wrongWith says which command or flag of a command line does not exist; empty where all do.
func wrongWith(line string, all map[string][]string) string {
	words := strings.Fields(line)
	command, rest := "ingestd", words[1:]
	for len(rest) > 0 {
		if _, ok := all[command+" "+rest[0]]; !ok {
			break
		}
		command, rest = command+" "+rest[0], rest[1:]
	}
	if command == "ingestd" && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "there is no command " + rest[0]
	}
	// Of a command that has others, the next word is one of them.
	if len(rest) > 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(rest[0]) && command != "ingestd completion" {
		for other := range all {
			if strings.HasPrefix(other, command+" ") {
				return "there is no command " + command + " " + rest[0]
			}
		}
	}
	for _, word := range rest {
		if strings.HasPrefix(word, "#") || strings.ContainsAny(word, "|;&<>'\"") {
			break
		}
		flag, _, _ := strings.Cut(strings.Trim(word, "[]()…,."), "=")
		if flag == "--" {
			break
		}
		if strings.HasPrefix(flag, "-") && command != "ingestd completion" && !slices.Contains(all[command], flag) {
			return command + " has no flag " + flag
		}
	}
	return ""
}

func TestDocs_every_command_that_the_text_names_exists_with_its_flags(t *testing.T) {
	t.Parallel()
	all := commands(t)
	if len(all) < 30 {
		t.Fatalf("found %d commands in docs/cli.md: expected more", len(all))
	}
	inScript := regexp.MustCompile(`(?m)^[ \t]*(?:[A-Z_]+=\S+ )*((?:build/)?ingestd( .*)?)$`)
	checked := 0
	for _, p := range pages(t) {
		lines := p.code
		for _, b := range p.blocks {
			if b.lang == "sh" || b.lang == "" {
				for _, found := range inScript.FindAllStringSubmatch(strings.ReplaceAll(b.text, "\\\n", " "), -1) {
					lines = append(lines, inline{b.line, strings.TrimPrefix(found[1], "build/")})
				}
			}
		}
		for _, l := range lines {
			if strings.HasPrefix(l.text, "ingestd ") {
				checked++
				if wrong := wrongWith(l.text, all); wrong != "" {
					t.Errorf("%s:%d: %s: %s", p.name, l.line, l.text, wrong)
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("checked %d commands: expected more", checked)
	}
	for line, right := range map[string]bool{
		"ingestd exports show 17": true, "ingestd exports shew 17": false, "ingestd runs": false, "ingestd run acme --ful": false,
		"ingestd run acme --full": true, "ingestd psql -- -c 'SELECT'": true, "ingestd status -w": true,
	} {
		if wrong := wrongWith(line, all); (wrong == "") != right {
			t.Errorf("%s: got %q", line, wrong)
		}
	}
}
