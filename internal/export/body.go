package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"ingestd/internal/fhir"
)

// maxExcerpt bounds what is quoted of a body that is not what was asked for, in bytes.
const maxExcerpt = 200

// errTooLarge says that a body exceeds its limit.
var errTooLarge = errors.New("the body is larger than the limit")

// readBounded reads at most limit bytes of a response's body, decompressed where it is compressed. What was read is
// returned with an error too.
func readBounded(response *http.Response, limit int64) ([]byte, error) {
	body, err := openBounded(response, limit)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return data, fmt.Errorf("read the body: %w", err)
	}
	return data, nil
}

// openBounded returns a response's body, decompressed where it is compressed, that fails with errTooLarge beyond limit.
func openBounded(response *http.Response, limit int64) (io.Reader, error) {
	plain, _, err := decode(response.Body, response.Header.Get("Content-Encoding"), 0)
	if err != nil {
		return nil, err
	}
	return &boundedReader{from: plain, left: limit}, nil
}

// boundedReader fails, rather than ends, at its limit.
type boundedReader struct {
	from io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.from.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n, errTooLarge
	}
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

// describe says what kind of thing a body is, in words that are safe to log.
func describe(contentType string, data []byte) string {
	if bytes.HasPrefix(data, gzipMagic) {
		return "gzip data"
	}
	start := bytes.ToLower(bytes.TrimLeft(data[:min(len(data), 512)], " \t\r\n\ufeff"))
	switch {
	case len(start) == 0:
		return "an empty body"
	case bytes.HasPrefix(start, []byte("<!doctype html")), bytes.HasPrefix(start, []byte("<html")):
		return "an HTML page"
	case start[0] == '<':
		return "XML or HTML"
	case start[0] == '{':
		if resourceType := leadingResourceType(data); resourceType != "" {
			return "a FHIR " + resourceType
		}
		return "a JSON object"
	case start[0] == '[':
		return "a JSON array"
	case bytes.HasPrefix(start, []byte("pk\x03\x04")):
		return "a ZIP archive"
	}
	if mediaType, _, err := mime.ParseMediaType(contentType); err == nil && strings.HasPrefix(mediaType, "text/") {
		return "plain text"
	}
	return "data of an unknown kind"
}

// isPage reports whether a body is a page for people.
func isPage(data []byte) bool { return describe("", data) == "an HTML page" }

// leadingResourceType returns the resourceType near the start of a JSON object, if it is one that FHIR knows.
func leadingResourceType(data []byte) string {
	_, rest, found := bytes.Cut(data[:min(len(data), 4<<10)], []byte(`"resourceType"`))
	if !found {
		return ""
	}
	rest = bytes.TrimLeft(rest, " \t\r\n:")
	if len(rest) == 0 || rest[0] != '"' {
		return ""
	}
	name, _, found := bytes.Cut(rest[1:], []byte(`"`))
	if !found || !fhir.KnownType(string(name)) {
		return ""
	}
	return string(name)
}

// excerpt returns the start of a body in a form that can be stored and shown: printable, bounded, and without long runs
// of letters and digits, which may be tokens or keys.
func excerpt(data []byte) string {
	text := fhir.Printable(string(data[:min(len(data), 4*maxExcerpt)]), maxExcerpt)
	var b strings.Builder
	for len(text) > 0 {
		run := strings.IndexFunc(text, func(r rune) bool { return !isTokenRune(r) })
		if run < 0 {
			run = len(text)
		}
		if looksSecret(text[:run]) {
			b.WriteString("***")
		} else {
			b.WriteString(text[:run])
		}
		text = text[run:]
		if other := strings.IndexFunc(text, isTokenRune); other >= 0 {
			b.WriteString(text[:other])
			text = text[other:]
		} else {
			b.WriteString(text)
			break
		}
	}
	return b.String()
}

// looksSecret tells tokens and keys from long words: by a digit among them, or by a length that no word has.
func looksSecret(run string) bool {
	const longRun, noWord = 16, 40
	return len(run) >= noWord || len(run) >= longRun && strings.ContainsAny(run, "0123456789")
}

func isTokenRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '+'
}
