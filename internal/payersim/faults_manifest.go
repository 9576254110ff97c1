package payersim

import (
	"errors"
	"fmt"
	"maps"
	"strings"
)

// ManifestFaults are the ways in which a manifest is odd, or wrong.
type ManifestFaults struct {
	// Members replace members of the manifest, as JSON; a null member is left out.
	Members map[string]any `yaml:"members"`
	// Entry replaces members of each output file's entry likewise.
	Entry map[string]any `yaml:"entry"`
	// CountOff is added to the count of each output file.
	CountOff int `yaml:"count_off"`
	// Repeat is how often each output file is listed beside the first time.
	Repeat int `yaml:"repeat"`
	// EmptyFiles is how many output files without a line are listed beside the others.
	EmptyFiles int `yaml:"empty_files"`
	// Origin replaces scheme and host of the URLs of output files.
	Origin string `yaml:"origin"`
	// Outcomes are reported in an error file.
	Outcomes []Outcome `yaml:"outcomes"`
	// OutcomeMember is the member that lists error files; error without.
	OutcomeMember string `yaml:"outcome_member"`

	// FilesPerPage cuts the manifest into pages of so many output files; 0: one page. Clients that permit partial manifests get
	// pages while the export runs.
	FilesPerPage int `yaml:"files_per_page"`
	// Loop makes the last page lead back to the first.
	Loop bool `yaml:"loop"`
	// PageAnswers are what correct requests for further pages get, in turn, before good answers.
	PageAnswers []Answer `yaml:"page_answers"`
	// PageMembers replace members of further pages alone.
	PageMembers map[string]any `yaml:"page_members"`
}

// Outcome is an issue that the payer reports of an export.
type Outcome struct {
	Severity string `yaml:"severity"`
	Code     string `yaml:"code"`
	Text     string `yaml:"text"`
}

func (f ManifestFaults) check() error {
	var errs []error
	for name, n := range map[string]int{"repeat": f.Repeat, "empty_files": f.EmptyFiles, "files_per_page": f.FilesPerPage} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("payersim: fault manifest.%s must not be negative", name))
		}
	}
	for i, outcome := range f.Outcomes {
		if outcome.Severity == "" || outcome.Code == "" {
			errs = append(errs, fmt.Errorf("payersim: fault manifest.outcomes[%d] needs a severity and a code", i))
		}
	}
	return errors.Join(append(errs, checkAnswers("manifest.page_answers", f.PageAnswers))...)
}

// outcomeFile holds the issues of the fault plan, as a server writes them.
func (f ManifestFaults) outcomeFile() []byte {
	var content []byte
	for _, outcome := range f.Outcomes {
		content = append(content, outcomeJSON(outcome.Severity, outcome.Code, outcome.Text)...)
		content = append(content, '\n')
	}
	return content
}

// page makes one page of a manifest: files are those of all its output, base the URL under which they lie, next the URL of the
// next page, empty for the last.
func (f ManifestFaults) page(m manifest, number, pages int, base, origin, next string) map[string]any {
	doc := map[string]any{
		"transactionTime": m.TransactionTime, "request": m.Request, "requiresAccessToken": m.RequiresAccessToken,
	}
	output := []map[string]any{}
	for _, entry := range f.cut(f.list(m.Output, base), number) {
		url := entry.URL
		if f.Origin != "" {
			url = f.Origin + strings.TrimPrefix(url, origin)
		}
		item := map[string]any{"type": entry.Type, "url": url, "count": entry.Count + f.CountOff}
		output = append(output, replaceMembers(item, f.Entry))
	}
	doc["output"] = output
	if number == pages-1 && len(m.Deleted) > 0 { // deletions count only behind all output
		doc["deleted"] = m.Deleted
	}
	member := f.OutcomeMember
	if member == "" {
		member = "error"
	}
	doc[member] = m.Error
	if next != "" {
		doc["link"] = []map[string]string{{"relation": "next", "url": next}}
	}
	if number > 0 {
		doc = replaceMembers(doc, f.PageMembers)
	}
	return replaceMembers(doc, f.Members)
}

// list is the output with what the faults add to it.
func (f ManifestFaults) list(output []manifestEntry, base string) []manifestEntry {
	all := make([]manifestEntry, 0, len(output)*(1+f.Repeat)+f.EmptyFiles)
	for range 1 + f.Repeat {
		all = append(all, output...)
	}
	for i := range f.EmptyFiles {
		all = append(all, manifestEntry{Type: "Patient", URL: fmt.Sprintf("%sempty.%d.ndjson", base, i)})
	}
	return all
}

// pages is how many pages so many output files make.
func (f ManifestFaults) pages(output int) int {
	if f.FilesPerPage == 0 {
		return 1
	}
	return max(1, (output*(1+f.Repeat)+f.EmptyFiles+f.FilesPerPage-1)/f.FilesPerPage)
}

func (f ManifestFaults) cut(all []manifestEntry, page int) []manifestEntry {
	if f.FilesPerPage == 0 {
		return all
	}
	from := min(page*f.FilesPerPage, len(all))
	return all[from:min(from+f.FilesPerPage, len(all))]
}

// replaceMembers returns an object with members replaced or, where they are null, left out.
func replaceMembers(object, members map[string]any) map[string]any {
	changed := maps.Clone(object)
	for name, value := range members {
		if value == nil {
			delete(changed, name)
		} else {
			changed[name] = value
		}
	}
	return changed
}
