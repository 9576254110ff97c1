package export

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"ingestd/internal/outbound"
)

// maxPages bounds the pages of one manifest.
const maxPages = 10_000

// followPages reads the further pages of a manifest and merges them into its first (Bulk Data 3.0, Output Manifest, link).
// The export is complete with a page that came with 200 and names no next one, reached from the first page through every
// other; until then the result is what is known so far (MAN-9).
func (c *Client) followPages(ctx context.Context, statusURL string, separate bool, status Status) (Status, error) {
	whole := newPages(status.Manifest)
	visited := map[string]bool{statusURL: true}
	for next := status.Manifest.Next; next != ""; {
		if visited[next] || len(visited) >= maxPages {
			return Status{}, pagesError(CodePagesEndless, "the pages of the manifest lead back to one another")
		}
		visited[next] = true
		page, err := c.pollOnce(ctx, next, separate, outbound.EndpointManifest)
		if err != nil {
			return Status{}, err
		}
		status.Complete, status.RetryAfter = page.Complete, page.RetryAfter
		if !page.Expires.IsZero() && (status.Expires.IsZero() || page.Expires.Before(status.Expires)) {
			status.Expires = page.Expires
		}
		if page.Manifest == nil {
			break // not there yet
		}
		if detail := whole.add(page.Manifest); detail != "" {
			return Status{}, pagesError(CodePagesDisagree, detail)
		}
		if whole.Files() > maxManifestFiles {
			return Status{}, pagesError(CodeManifestTooLarge, fmt.Sprintf("the pages of the manifest list more than %d files", maxManifestFiles))
		}
		next = page.Manifest.Next
	}
	whole.Next = ""
	status.Manifest = whole.Manifest
	return status, nil
}

func pagesError(code, detail string) *Error {
	return &Error{
		Phase: PhaseManifest, Code: code, Status: http.StatusOK, Action: ActionFail, Detail: detail,
		Hint: "this is a fault of the payer's server; export.partial_manifests: false avoids pages",
	}
}

// pages are the pages of a manifest as one. Files are told apart by their URL, because servers repeat some on every page
// (MAN-9, MAN-10).
type pages struct {
	*Manifest
	seen map[string]bool
}

func newPages(first *Manifest) *pages {
	p := &pages{Manifest: first, seen: make(map[string]bool)}
	for _, group := range []struct {
		name  string
		files []File
	}{{"output", first.Output}, {"deleted", first.Deleted}, {"error", first.Errors}} {
		for _, file := range group.files {
			p.seen[group.name+" "+file.URL] = true
		}
	}
	return p
}

// add merges a further page. It returns what the page disagrees on with the first, and "" where it fits (MAN-10).
func (p *pages) add(page *Manifest) string {
	switch {
	case page.TransactionTime != p.TransactionTime && !page.Time.Equal(p.Time):
		return "a further page of the manifest has another transactionTime"
	case page.RequiresAccessToken != p.RequiresAccessToken:
		return "a further page of the manifest has another requiresAccessToken"
	case page.OutputOrganizedBy != p.OutputOrganizedBy:
		return "a further page of the manifest has another outputOrganizedBy"
	}
	p.Output = p.merge("output", p.Output, page.Output)
	p.Deleted = p.merge("deleted", p.Deleted, page.Deleted)
	p.Errors = p.merge("error", p.Errors, page.Errors)
	p.Pages++
	p.HasDeleted = p.HasDeleted || page.HasDeleted
	for _, warning := range page.Warnings {
		if len(p.Warnings) < maxWarnings {
			p.Warnings = append(p.Warnings, warning)
		}
	}
	return ""
}

func (p *pages) merge(name string, known, more []File) []File {
	for _, file := range more {
		key := name + " " + file.URL
		if p.seen[key] {
			continue
		}
		p.seen[key] = true
		file.Place = strconv.Itoa(p.Pages) + strings.TrimPrefix(file.Place, "0")
		known = append(known, file)
	}
	return known
}
