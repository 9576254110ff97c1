package main

import (
	"strings"
	"testing"

	"ingestd/docs"
)

func TestRunbooks_are_all_there_and_hold_no_markdown_that_a_terminal_shows(t *testing.T) {
	t.Parallel()
	all := readRunbooks(docs.Runbooks)
	named := make(map[string]bool)
	for _, r := range all {
		named[r.name] = true
		if r.text == "" || r.section == "" || strings.Contains(r.text, "](") || strings.Contains(r.text, "```") || strings.Contains(r.text, "<!--") {
			t.Errorf("%s of %q reads:\n%s", r.name, r.section, r.text)
		}
	}
	for _, name := range []string{"IngestdPayerStale", "IngestdAuditFailing", "internal", "auth_invalid_client", "ghost_guard", "file_corrupt"} {
		if !named[name] {
			t.Errorf("there is no runbook of %s", name)
		}
	}
	// Headings that have more than one word, or nothing below them, group others.
	if want := strings.Count(docs.Runbooks, "\n### "); len(all) < want*9/10 || len(all) > want {
		t.Errorf("got %d runbooks of %d headings", len(all), want)
	}
}
