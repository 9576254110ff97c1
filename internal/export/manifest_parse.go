package export

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"ingestd/internal/fhir"
)

// manifestParser walks the tokens of one page.
type manifestParser struct {
	decoder  *json.Decoder
	base     *url.URL
	options  ManifestOptions
	manifest *Manifest

	hasOutput    bool
	resourceType string
	tokenKnown   bool
	seen         map[string]bool // list and URL: a URL that stands twice in a list is loaded once (MAN-4)
	unknownBytes int
}

func (p *manifestParser) run() error {
	start, err := p.decoder.Token()
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	if start != json.Delim('{') {
		return notManifestError("JSON that is no object")
	}
	for p.decoder.More() {
		if err := p.member(); err != nil {
			return err
		}
	}
	if _, err := p.decoder.Token(); err != nil {
		return fmt.Errorf("read the manifest: %w", noEOF(err))
	}
	switch _, err := p.decoder.Token(); {
	case err == nil:
		return notManifestError("more than one JSON value")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read the end of the manifest: %w", err)
	}
	switch {
	case p.resourceType != "" && !p.hasOutput && fhir.KnownType(p.resourceType):
		return notManifestError("a FHIR " + p.resourceType)
	case !p.hasOutput:
		return notManifestError("a JSON object that has no output")
	}
	p.settleTokens()
	return nil
}

// member reads one member of the manifest.
func (p *manifestParser) member() error {
	token, err := p.decoder.Token()
	if err != nil {
		return fmt.Errorf("read the manifest: %w", noEOF(err))
	}
	name, _ := token.(string)
	m := p.manifest
	switch name {
	case "output":
		p.hasOutput = true
		return p.list(name, &m.Output)
	case "deleted":
		m.HasDeleted = true
		return p.list(name, &m.Deleted)
	case "error", "outcome":
		return p.list(name, &m.Errors)
	}
	var value json.RawMessage
	if err := p.decoder.Decode(&value); err != nil {
		return fmt.Errorf("read the manifest: %w", noEOF(err))
	}
	switch name {
	case "transactionTime":
		m.TransactionTime = stringOf(value)
		m.Time = parseInstant(m.TransactionTime)
		if m.Time.IsZero() {
			p.warn("transactionTime is no instant")
		}
	case "request":
		m.Request = stringOf(value)
	case "requiresAccessToken":
		if required, ok := boolOf(value); ok {
			m.RequiresAccessToken, p.tokenKnown = required, true
		}
	case "outputOrganizedBy":
		m.OutputOrganizedBy = stringOf(value)
	case "extension":
		m.Extension = value
	case "link":
		return p.links(value)
	case "resourceType":
		p.resourceType = stringOf(value)
	default:
		m.Unknown = p.keep(m.Unknown, name, value)
	}
	return nil
}

// keep notes a member that no version knows, as long as there is room.
func (p *manifestParser) keep(unknown map[string]json.RawMessage, name string, value json.RawMessage,
) map[string]json.RawMessage {
	if p.unknownBytes+len(name)+len(value) > maxUnknownBytes {
		p.warn("unknown members were not kept, because they are too large")
		return unknown
	}
	p.unknownBytes += len(name) + len(value)
	if unknown == nil {
		unknown = make(map[string]json.RawMessage)
	}
	unknown[name] = value
	return unknown
}

// list reads an array of files item by item.
func (p *manifestParser) list(name string, files *[]File) error {
	token, err := p.decoder.Token()
	switch {
	case err != nil:
		return fmt.Errorf("read the manifest: %w", noEOF(err))
	case token == nil: // null is as good as an empty list
		return nil
	case token != json.Delim('['):
		return notManifestError("a manifest whose " + name + " is no array")
	}
	for index := 0; p.decoder.More(); index++ {
		var item map[string]json.RawMessage
		if err := p.decoder.Decode(&item); err != nil {
			if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				return notManifestError(fmt.Sprintf("a manifest whose %s[%d] is no object", name, index))
			}
			return fmt.Errorf("read the manifest: %w", noEOF(err))
		}
		if err := p.item(name, index, item, files); err != nil {
			return err
		}
	}
	if _, err := p.decoder.Token(); err != nil {
		return fmt.Errorf("read the manifest: %w", noEOF(err))
	}
	return nil
}

// item reads one file and appends it to the list that it belongs to.
func (p *manifestParser) item(list string, index int, item map[string]json.RawMessage, files *[]File) error {
	file := File{Count: -1, Size: -1, Place: fmt.Sprintf("0/%s/%d", list, index)}
	u, err := p.options.Resolve(p.base, stringOf(item["url"]))
	if err != nil {
		return &badURLError{list, index, err}
	}
	file.URL = u.String()
	file.Expires = urlExpires(u)
	file.RequiresAccessToken = p.options.NeedsToken(u)
	for name, value := range item {
		switch name {
		case "url":
		case "type":
			file.Type = stringOf(value)
		case "count":
			if file.Count = int64Of(value); file.Count < 0 {
				p.warn(list + ": a count is no number")
			}
		case "fileSize":
			if file.Size < 0 {
				file.Size = int64Of(value)
			}
		case "extension":
			file.Extension = value
			file.readExtensions()
		case "continuesInFile":
			next, err := p.options.Resolve(p.base, stringOf(value))
			if err != nil {
				return &badURLError{list, index, err}
			}
			file.ContinuesIn = next.String()
		case "countSeverity":
			file.CountSeverity = value
		default:
			file.Unknown = p.keep(file.Unknown, name, value)
		}
	}
	if list == "output" && file.Type == "OperationOutcome" {
		list, files = "error", &p.manifest.Errors
	}
	if list == "outcome" {
		list = "error"
	}
	switch { // STU4 leaves out the types that follow from the list
	case file.Type == "" && list == "deleted":
		file.Type = "Bundle"
	case file.Type == "" && list == "error":
		file.Type = "OperationOutcome"
	}
	key := list + " " + file.URL
	if p.seen[key] {
		p.warn(list + " names a URL more than once: it is read once")
		return nil
	}
	if p.manifest.Files() >= maxManifestFiles {
		return errTooManyFiles
	}
	p.seen[key] = true
	*files = append(*files, file)
	return nil
}

// links reads the link member for its next page (MAN-9). Other relations are of no account.
func (p *manifestParser) links(value json.RawMessage) error {
	elements := []json.RawMessage{value}
	var several []json.RawMessage
	if json.Unmarshal(value, &several) == nil {
		elements = several
	}
	for index, element := range elements {
		var link map[string]json.RawMessage
		if json.Unmarshal(element, &link) != nil || !strings.EqualFold(stringOf(link["relation"]), "next") {
			continue
		}
		next, err := p.options.Resolve(p.base, stringOf(link["url"]))
		if err != nil {
			return &badURLError{"link", index, err}
		}
		p.manifest.Next = next.String()
	}
	return nil
}

// settleTokens gives each file the manifest's word on tokens, once it is known: it may come last. Without it, files at the
// FHIR base's origin need the token and others must not have it (MAN-1).
func (p *manifestParser) settleTokens() {
	if !p.tokenKnown {
		return
	}
	for _, files := range [][]File{p.manifest.Output, p.manifest.Deleted, p.manifest.Errors} {
		for i := range files {
			files[i].RequiresAccessToken = p.manifest.RequiresAccessToken
		}
	}
}

func (p *manifestParser) warn(text string) {
	if slices.Contains(p.manifest.Warnings, text) {
		return
	}
	if len(p.manifest.Warnings) < maxWarnings {
		p.manifest.Warnings = append(p.manifest.Warnings, text)
	}
}

// parseInstant reads a FHIR instant: RFC 3339 with any offset, also without its colon, as Java's libraries write it, and up to
// nine digits of a fraction; the zero time for anything else.
func parseInstant(text string) time.Time {
	text = strings.TrimSpace(text)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		at, err = time.Parse("2006-01-02T15:04:05Z0700", text)
	}
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}
	}
	return at.UTC()
}

// skipBOM passes over a byte order mark.
func skipBOM(r io.Reader) io.Reader {
	buffered := bufio.NewReader(r)
	if start, err := buffered.Peek(len(byteOrderMark)); err == nil && string(start) == byteOrderMark {
		_, _ = buffered.Discard(len(byteOrderMark)) // it was just peeked at
	}
	return buffered
}

// parseOutcomeStart reads an OperationOutcome out of the start of a body.
func parseOutcomeStart(start []byte) (*fhir.Outcome, bool) {
	if leadingResourceType(start) != "OperationOutcome" {
		return nil, false
	}
	return fhir.ParseOutcome(start)
}
