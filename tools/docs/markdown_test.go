package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// root is the repository, seen from this package.
const root = "../.."

// page is a Markdown file, taken apart.
type page struct {
	// name is its path in the repository.
	name   string
	blocks []*block
	links  []link
	// anchors are the fragments that links to it may name.
	anchors []string
	// code is what stands in backticks within the text.
	code []inline
	// daemon says whether its commands expect a daemon.
	daemon bool
}

// block is a code block.
type block struct {
	page   string
	line   int
	lang   string // of the fence; empty for code that is indented
	text   string
	notRun string // the reason, where it is not executed
	output bool   // it shows what the block before it prints
	faults bool
	exit   int
	start  int // where its text begins in the page; -1 where it is only a part of it
}

func (b *block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

type link struct {
	line int
	to   string
}

type inline struct {
	line int
	text string
}

// pages reads all pages of the repository.
func pages(t *testing.T) []*page {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deployments/*.md", "deployments/*/*.md", "deployments/*/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	var all []*page
	for _, name := range names {
		p, err := parse(strings.TrimPrefix(filepath.ToSlash(name), root+"/"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("found %d pages: this is not the repository", len(all))
	}
	return all
}

func parse(name string) (*page, error) {
	source, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	p := &page{name: name}
	lineOf := func(offset int) int { return 1 + strings.Count(string(source[:offset]), "\n") }
	document := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	at := 0 // the last offset that is known: inline nodes have none of their own
	err = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
			at = n.Lines().At(0).Start
		}
		switch n := n.(type) {
		case *ast.Heading:
			p.anchors = append(p.anchors, anchor(plain(n, source), p.anchors))
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			b := &block{page: name, line: lineOf(at), text: lines(n, source), start: at}
			if fenced, ok := n.(*ast.FencedCodeBlock); ok {
				b.lang = string(fenced.Language(source))
			}
			for _, mark := range marks(n, source) {
				if err := b.apply(mark, p); err != nil {
					return ast.WalkStop, err
				}
			}
			p.blocks = append(p.blocks, b)
			if b.lang == "console" {
				p.blocks = append(p.blocks, b.session())
			}
		case *ast.HTMLBlock:
			p.daemon = p.daemon || strings.TrimSpace(lines(n, source)) == "<!-- daemon -->"
		case *ast.Link:
			p.links = append(p.links, link{lineOf(at), string(n.Destination)})
		case *ast.Image:
			p.links = append(p.links, link{lineOf(at), string(n.Destination)})
		case *ast.Text:
			at = n.Segment.Start
		case *ast.CodeSpan:
			p.code = append(p.code, inline{lineOf(at), plain(n, source)})
		}
		return ast.WalkContinue, nil
	})
	return p, err
}

// marks are the HTML comments right before a block.
func marks(n ast.Node, source []byte) []string {
	var all []string
	for n = n.PreviousSibling(); n != nil && n.Kind() == ast.KindHTMLBlock; n = n.PreviousSibling() {
		comment := lines(n, source)
		if html := n.(*ast.HTMLBlock); html.HasClosure() {
			comment += string(html.ClosureLine.Value(source))
		}
		for line := range strings.Lines(comment) {
			if mark, ok := strings.CutPrefix(strings.TrimSpace(line), "<!-- "); ok {
				all = append(all, strings.TrimSuffix(mark, " -->"))
			}
		}
	}
	slices.Reverse(all)
	return all
}

// apply heeds a mark; comments that are none are for people.
func (b *block) apply(mark string, p *page) error {
	key, value, _ := strings.Cut(mark, ":")
	value = strings.TrimSpace(value)
	switch key {
	case "not run":
		if value == "" {
			return fmt.Errorf("%s: not run: expected a reason", b)
		}
		b.notRun = value
	case "output":
		b.output = true
	case "faults":
		b.faults = true
	case "exit":
		code, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%s: exit: %w", b, err)
		}
		b.exit = code
	}
	return nil
}

// session makes the commands of a console block, which stand behind "$ ", a script, and returns what it is to print as a block of its own.
func (b *block) session() *block {
	var script, shown strings.Builder
	for line := range strings.Lines(b.text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			script.WriteString(command)
		} else {
			shown.WriteString(line)
		}
	}
	b.lang, b.text = "sh", script.String()
	return &block{page: b.page, line: b.line, lang: "text", text: shown.String(), output: true, start: -1}
}

func lines(n ast.Node, source []byte) string {
	var b strings.Builder
	for i := range n.Lines().Len() {
		segment := n.Lines().At(i)
		b.Write(segment.Value(source))
	}
	return b.String()
}

// plain is the text of a node without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(n.Segment.Value(source))
				if n.SoftLineBreak() {
					b.WriteByte(' ')
				}
			}
		case *ast.String:
			if entering {
				b.Write(n.Value)
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// anchor is the fragment that GitHub gives a heading: what is neither letter, digit, hyphen nor underscore goes, blanks become hyphens,
// and a heading that comes again gets a number.
func anchor(heading string, taken []string) string {
	a := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
	unique := a
	for n := 1; slices.Contains(taken, unique); n++ {
		unique = a + "-" + strconv.Itoa(n)
	}
	return unique
}

func TestParse_tells_blocks_marks_links_and_anchors(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "page.md")
	const markdown = "# A `b` – c's\n\n<!-- daemon -->\n\n# A b  cs\n\n<!-- not run: needs AWS -->\n```sh\nls\n```\n\n- item\n\n" +
		"  <!-- exit: 1 -->\n  ```sh\n  false\n  ```\n\n```console\n$ echo a\na\n```\n\n    indented\n\n| `ingestd run` | [x](y.md#z) |\n|---|---|\n| a | b |\n"
	if err := os.WriteFile(name, []byte(markdown), 0o600); err != nil {
		t.Fatal(err)
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(absolute, name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(relative)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a-b--cs", "a-b--cs-1"}; !slices.Equal(p.anchors, want) {
		t.Errorf("anchors: got %q, want %q", p.anchors, want)
	}
	if len(p.blocks) != 5 || p.blocks[4].lang != "" || p.blocks[2].text != "echo a\n" || p.blocks[3].text != "a\n" || !p.daemon || p.blocks[0].notRun != "needs AWS" || p.blocks[0].line != 9 || p.blocks[1].exit != 1 || p.blocks[1].text != "false\n" {
		t.Errorf("blocks: got %+v", p.blocks)
	}
	if len(p.links) != 1 || p.links[0].to != "y.md#z" || len(p.code) != 2 || p.code[1].text != "ingestd run" {
		t.Errorf("links %v, code %v", p.links, p.code)
	}
}
