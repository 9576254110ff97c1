package export

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

// FuzzDecode proves that a body of any bytes, under any Content-Encoding, is read within its limits, and that a gzip stream
// that breaks off is never taken for a whole one.
func FuzzDecode(f *testing.F) {
	once := zipped(strings.Repeat(`{"resourceType":"Patient"}`+"\n", 50))
	for _, seed := range [][]byte{
		nil, []byte("plain"),
		{0x1f},
		{0x1f, 0x8b},
		once, zipped(string(once)), append(bytes.Clone(once), once...), once[:len(once)-5],
		append(bytes.Clone(once), "garbage"...),
	} {
		f.Add(seed, "gzip")
		f.Add(seed, "")
	}
	f.Add([]byte("x"), "deflate")
	f.Add([]byte("x"), "zstd")
	f.Fuzz(func(t *testing.T, data []byte, header string) {
		const limit = 1 << 20
		response := &http.Response{Header: http.Header{"Content-Encoding": {header}}, Body: io.NopCloser(bytes.NewReader(data))}
		got, err := readBounded(response, limit)
		if len(got) > limit+1 {
			t.Fatalf("%d bytes were read", len(got))
		}
		if err == nil && bytes.HasPrefix(data, gzipMagic) {
			again, wrong := gzip.NewReader(bytes.NewReader(data))
			if wrong == nil {
				_, wrong = io.Copy(io.Discard, again)
			}
			if wrong != nil {
				t.Fatalf("took %q, which the standard library refuses: %v", data, wrong)
			}
		}
	})
}

// FuzzMetadata proves that neither a CapabilityStatement nor an OperationDefinition of any bytes does harm.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","rest":[{"operation":[{"name":"export","definition":"x"}],` +
			`"resource":[{"type":"Patient","operation":[{"name":"export"}]}]}],"instantiates":["x|2.0.0"]}`,
		`{"resourceType":"OperationDefinition","parameter":[{"name":"_since","use":"in"}]}`, `{"rest":null}`, `[]`, ``, `{"rest":[{"resource":[1]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = parseCapability(data)
		_, _ = parseOperation(data)
	})
}

// FuzzTimes proves that every instant that a payer can write is one that can be stored, or none.
func FuzzTimes(f *testing.F) {
	for _, seed := range []string{
		"Wed, 21 Oct 2026 07:28:00 GMT", "2026-08-22 19:02:15.123 +0000 UTC m=+0.1", "2026-01-01T00:00:00.123456789+14:00", "0", "",
		"X-Amz-Date=20260101T000000Z&X-Amz-Expires=900", "sig=x&se=2026-01-01T00:00:00Z", "Signature=x&Expires=68719476735",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, at := range map[string]time.Time{
			"Expires": parseExpires(text), "Date": responseDate(http.Header{"Date": {text}}), "instant": parseInstant(text),
			"URL": urlExpires(&url.URL{RawQuery: text}),
		} {
			if year := at.Year(); year < -1 || year > 10_000 {
				t.Errorf("%s %q is in the year %d", name, text, year)
			}
		}
	})
}

// FuzzExcerpt proves that what is quoted of a body is short and printable, whatever the body is.
func FuzzExcerpt(f *testing.F) {
	for _, seed := range []string{"<html>\x1b]0;title\a", "{\"resourceType\":\"Patient\"", "\u202egnp.exe", strings.Repeat("a1", 50), "PK\x03\x04"} {
		f.Add("text/html", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		for _, text := range []string{excerpt(data), describe(contentType, data)} {
			if len(text) > 2*maxExcerpt || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q became %q", data, text)
			}
		}
	})
}

// FuzzBinary proves that an attachment is taken out of a FHIR Binary of any bytes, or refused.
func FuzzBinary(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"Binary","contentType":"text/plain","data":"aGVsbG8="}`, `{"resourceType":"Binary","data":"\n aGVs\t bG8="}`,
		`{"resourceType":"Binary","data":1}`, `{"resourceType":"Patient"}`, `{"resourceType":"Binary"`, ``,
	} {
		f.Add([]byte(seed), "application/fhir+json", "text/plain")
	}
	f.Fuzz(func(t *testing.T, data []byte, got, wanted string) {
		content := AttachmentContent{Data: data, ContentType: got}
		if err := content.unwrap(wanted); err == nil && len(content.Data) > len(data) {
			t.Errorf("%d bytes became %d", len(data), len(content.Data))
		}
	})
}

// FuzzAsked proves that the request that a manifest names is compared without harm, and that every request is the one it is.
func FuzzAsked(f *testing.F) {
	for _, seed := range []string{"https://payer.example/Group/42/$export?_type=Patient,Observation", "$export", "::", "%zz", "/Patient/%24export?_typeFilter=a%252Cb"} {
		f.Add(seed)
	}
	c := newClient(f, "https://payer.example/r4")
	f.Fuzz(func(_ *testing.T, text string) {
		c.Asked(KickOffRequest{Types: []string{"Patient"}}, text)
		if u, err := url.Parse(text); err == nil {
			_, _ = c.resolve(c.base, text)
			_ = levelOf(u)
		}
	})
}
