package export

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Manifest is one page of the list of files that an export consists of (Bulk Data 3.0, Complete Status, Output Manifest).
// The same type reads what every version of the guide calls for; none is required beyond output (VER-1).
type Manifest struct {
	// TransactionTime is the string that the payer sent, for the next _since; Time is the instant that it means, zero
	// where it is missing or cannot be read (MAN-2).
	TransactionTime string
	Time            time.Time
	// Request is the kick-off URL as the payer understood it.
	Request string
	// RequiresAccessToken is the manifest's word, true where it has none. What counts for a file is File's own.
	RequiresAccessToken bool
	Output              []File
	Deleted             []File
	// HasDeleted tells an empty list of deletions from none: an absent list means "not told" (DEL-3).
	HasDeleted bool
	// Errors are the OperationOutcome files: error up to STU3, outcome in STU4, and output of type OperationOutcome.
	Errors []File
	// Next is the URL of the next page, absolute, empty on the last one and in what Poll returns, which holds all pages.
	Next string
	// Pages is how many pages this is: 1, or more in what Poll returns.
	Pages int
	// OutputOrganizedBy is set where output files hold blocks of several types (MAN-12).
	OutputOrganizedBy string
	// Extension is an object up to STU3 and an array in STU4, unread.
	Extension json.RawMessage
	// Unknown holds the members that no version of the guide knows, as far as they are small.
	Unknown map[string]json.RawMessage
	// Warnings say what was passed over or mended; they are safe to log.
	Warnings []string
}

// Files returns how many files the manifest lists.
func (m *Manifest) Files() int { return len(m.Output) + len(m.Deleted) + len(m.Errors) }

// File is one file of an export.
type File struct {
	// Type is the resource type of its lines, empty where the manifest does not say (organised output, STU4).
	Type string
	// URL is absolute. Its query may be a credential: it belongs into no log.
	URL string
	// Count is the number of resources, -1 where the manifest does not say.
	Count int64
	// RequiresAccessToken says whether the file is requested with the token, or must be requested without.
	RequiresAccessToken bool
	Extension           json.RawMessage
	// ContinuesIn is the URL of the file in which the last block goes on, in organised output.
	ContinuesIn string
	// SHA256 is the digest of the decompressed file in lower-case hex, empty where the manifest does not say.
	SHA256 string
	// Size is the size of the decompressed file in bytes, -1 where the manifest does not say. It is a hint: STU4's
	// fileSize leaves open what is counted.
	Size int64
	// CountSeverity is what STU4 tells of an outcome file: how many issues of each severity it holds.
	CountSeverity json.RawMessage
	// Place is where the manifest lists the file: the number of the page, from 0, the list, and the position in it. A page never
	// changes but for its URLs, so that the place tells which file it is (MAN-8).
	Place string
	// Expires is until when the URL is good, as far as its signature says so; zero where it does not.
	Expires time.Time
	// Unknown holds the members that no version of the guide knows.
	Unknown map[string]json.RawMessage

	// Protection names an authorization or encryption scheme that the file needs and this client does not know.
	Protection string
}

const (
	// maxUnknownBytes bounds what is kept of members that no version knows, over a whole page.
	maxUnknownBytes = 256 << 10
	// maxWarnings bounds the warnings about one page.
	maxWarnings = 20
)

// notManifestError says that a body is JSON but no manifest; the text says what it is instead.
type notManifestError string

func (e notManifestError) Error() string { return string(e) }

// badURLError says that a URL in a manifest was refused.
type badURLError struct {
	list  string
	index int
	err   error
}

func (e *badURLError) Error() string { return fmt.Sprintf("%s[%d]: %v", e.list, e.index, e.err) }
func (e *badURLError) Unwrap() error { return e.err }

// ManifestOptions say how the URLs of a manifest are taken.
type ManifestOptions struct {
	// Resolve makes a URL absolute and refuses what must not be requested; nil takes every http or https URL.
	Resolve func(at *url.URL, text string) (*url.URL, error)
	// NeedsToken decides for a file where the manifest lacks requiresAccessToken; nil means always.
	NeedsToken func(*url.URL) bool
}

// ParseManifest reads one page of a manifest from r, item by item, so that memory grows with the files listed and nothing
// else, and bounds both the files and each single value. base is the URL that it came from. The error says what is wrong without quoting the payer; where a URL is refused,
// it names the list and the position.
func ParseManifest(r io.Reader, base *url.URL, o ManifestOptions) (*Manifest, error) {
	if o.Resolve == nil {
		o.Resolve = resolvePlain
	}
	if o.NeedsToken == nil {
		o.NeedsToken = func(*url.URL) bool { return true }
	}
	p := &manifestParser{
		decoder: newBoundedDecoder(skipBOM(r)), base: base, options: o,
		manifest: &Manifest{RequiresAccessToken: true, Pages: 1},
		seen:     make(map[string]bool),
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	return p.manifest, nil
}

func resolvePlain(at *url.URL, text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("the URL cannot be read")
	}
	if at != nil {
		u = at.ResolveReference(u)
	}
	if u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the URL is not https")
	}
	return u, nil
}

// parseManifest is ParseManifest under this client's rules.
func (c *Client) parseManifest(r io.Reader, from *url.URL) (*Manifest, error) {
	return ParseManifest(r, from, ManifestOptions{Resolve: c.resolve, NeedsToken: c.atBase})
}

// checkFiles refuses a manifest with a file that Open would refuse: better to know before anything is loaded (FILE-1,
// FILE-2).
func (c *Client) checkFiles(m *Manifest) error {
	for _, files := range [][]File{m.Output, m.Deleted, m.Errors} {
		for _, file := range files {
			if _, err := c.fileURL(file); err != nil {
				return err
			}
		}
	}
	if m.Next == "" {
		return nil
	}
	if _, err := c.ownStatusURL(m.Next); err != nil {
		return &badURLError{"link", 0, err}
	}
	return nil
}

// manifestError classifies a 200 answer that is no manifest (POLL-5). head is the start of what came.
func (c *Client) manifestError(ctx context.Context, contentType string, head *headReader, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", PhaseManifest, context.Cause(ctx))
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	e := &Error{Phase: PhaseManifest, Code: CodeNotAManifest, Status: http.StatusOK, Action: ActionFail, Err: err}
	var (
		start    []byte
		bad      *badURLError
		foreign  notManifestError
		encoding *encodingError
	)
	if head != nil {
		start = head.head
	}
	e.Outcome, _ = parseOutcomeStart(start)
	switch {
	case errors.As(err, &bad):
		e.Code, e.Detail = CodeURLRefused, "refused a URL of the manifest: "+err.Error()
		e.Hint = "if that host is meant, list it under the payer's download_hosts"
		return e
	case errors.Is(err, errTooLarge):
		e.Code = CodeManifestTooLarge
		e.Detail = fmt.Sprintf("the manifest is larger than %d bytes", c.maxManifestBytes)
		return e
	case errors.Is(err, errValueTooLarge):
		e.Code = CodeManifestTooLarge
		e.Detail = fmt.Sprintf("a value of the manifest is larger than %d bytes", maxManifestValueBytes)
		return e
	case errors.Is(err, errTooManyFiles):
		e.Code = CodeManifestTooLarge
		e.Detail = fmt.Sprintf("the manifest lists more than %d files", maxManifestFiles)
		return e
	case errors.As(err, &encoding):
		e.Detail = err.Error()
		return e
	case errors.As(err, &foreign):
		e.Detail = "a status 200 came with " + err.Error()
	case isSyntax(err):
		e.Detail = "a status 200 came with " + describe(contentType, start)
		switch {
		case strings.HasSuffix(e.Detail, "a JSON object"):
			e.Detail = "the manifest is not valid JSON"
		case !startsObject(start): // somebody else's page, or none: it says nothing of the export, and a payer in maintenance comes back
			e.Action = ActionRetry
		}
	default: // the connection, not the payer's word: the same request may give it whole
		e.Action, e.Detail = ActionRetry, "the manifest did not come whole"
		return e
	}
	if e.Outcome.Transient() {
		e.Action = ActionWait
	}
	e.Excerpt = excerpt(start)
	e.Hint = "check that no login page or proxy answers in the payer's place"
	return e
}

// startsObject reports whether a body begins as a JSON object does: it is the payer's own word then, whatever it says.
func startsObject(start []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(start, " \t\r\n\ufeff"), []byte("{"))
}

// isSyntax reports whether a complete body is no JSON, as opposed to a body that broke off.
func isSyntax(err error) bool {
	var syntax *json.SyntaxError
	return errors.As(err, &syntax) || errors.Is(err, io.EOF)
}

// readExtensions reads the extensions in which AB2D and DPC give the digest and the length of a file: a list of FHIR extensions
// or one of them (MAN-6).
func (f *File) readExtensions() {
	elements := []json.RawMessage{f.Extension}
	var list []json.RawMessage
	if json.Unmarshal(f.Extension, &list) == nil {
		elements = list
	}
	for _, element := range elements {
		var one struct {
			URL          string          `json:"url"`
			ValueString  string          `json:"valueString"`
			ValueDecimal json.RawMessage `json:"valueDecimal"`
			ValueInteger json.RawMessage `json:"valueInteger"`
		}
		if json.Unmarshal(element, &one) != nil {
			continue
		}
		name := strings.ToLower(one.URL[strings.LastIndexByte(one.URL, '/')+1:])
		switch {
		case strings.Contains(name, "checksum"):
			f.SHA256 = sha256Of(one.ValueString)
		case strings.Contains(name, "file_length"), strings.Contains(name, "file-length"):
			if size := int64Of(one.ValueDecimal); size >= 0 {
				f.Size = size
			} else if size = int64Of(one.ValueInteger); size >= 0 {
				f.Size = size
			}
		case strings.Contains(name, "authorization"), strings.Contains(name, "decrypt"),
			strings.Contains(name, "encrypt"):
			f.Protection = name
		}
	}
}

// sha256Of reads "sha256:<hex>"; an empty or unreadable digest is as good as none.
func sha256Of(text string) string {
	digest, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(text)), "sha256:")
	if raw, err := hex.DecodeString(digest); !found || err != nil || len(raw) != 32 {
		return ""
	}
	return digest
}

// int64Of reads a whole number that is written as a number or as a string; -1 for anything else.
func int64Of(raw json.RawMessage) int64 {
	text := strings.Trim(strings.TrimSpace(string(raw)), `"`)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return n
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 && f < 1<<53 && f == float64(int64(f)) {
		return int64(f)
	}
	return -1
}

// boolOf reads true, false, "true" or "false".
func boolOf(raw json.RawMessage) (value, ok bool) {
	switch strings.ToLower(strings.Trim(strings.TrimSpace(string(raw)), `"`)) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

func stringOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}
