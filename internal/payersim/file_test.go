package payersim

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func newKeyServer(t *testing.T, answer func(w http.ResponseWriter)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	t.Cleanup(server.Close)
	return server.URL
}

func TestFILE5_plain_gzip_and_ranges_hold_the_same_bytes(t *testing.T) {
	t.Parallel()
	folder := writeFolder(t, map[string]string{"Patient.ndjson": strings.Repeat(`{"resourceType":"Patient","id":"p1"}`+"\n", 500)})
	for name, o := range map[string]Options{"generator": {Patients: 30, Seed: 2}, "folder": {DataDir: folder}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, o)
			token := p.token("system/*.rs")
			m, _ := p.export("/$export?_type=Patient", token)
			get := func(edit ...func(*http.Request)) answer {
				t.Helper()
				return p.send(http.MethodGet, m.Output[0].URL, "", append(edit, bearerOf(token))...)
			}
			plain := get()
			if plain.Header.Get("Content-Type") != "application/fhir+ndjson" || plain.Header.Get("Content-Encoding") != "" {
				t.Errorf("headers of the plain file: %v", plain.Header)
			}
			etag := plain.Header.Get("ETag")
			if !strings.HasPrefix(etag, `"`) {
				t.Errorf("ETag %s is not strong", etag)
			}
			again := get()
			if again.Header.Get("ETag") != etag || !bytes.Equal(again.body, plain.body) {
				t.Error("the second read differs from the first")
			}
			if again.Header.Get("Content-Length") != strconv.Itoa(len(plain.body)) {
				t.Errorf("Content-Length %q of a known file of %d bytes", again.Header.Get("Content-Length"), len(plain.body))
			}
			for n := range 2 { // the second one comes from memory
				packed := get(header("Accept-Encoding", "gzip"))
				if packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("ETag") == etag {
					t.Errorf("gzip read %d: Content-Encoding %q, ETag %q", n, packed.Header.Get("Content-Encoding"), packed.Header.Get("ETag"))
				}
				if n == 1 && packed.Header.Get("Content-Length") != strconv.Itoa(len(packed.body)) {
					t.Errorf("gzip read %d: Content-Length %q", n, packed.Header.Get("Content-Length"))
				}
				if !bytes.Equal(gunzip(t, packed.body), plain.body) {
					t.Errorf("gzip read %d differs from the plain file", n)
				}
			}
			size := len(plain.body)
			for asked, want := range map[string][2]int{
				"bytes=0-0":                          {0, 0},
				"bytes=100-199":                      {100, 199},
				"bytes=1000-":                        {1000, size - 1},
				"bytes=-50":                          {size - 50, size - 1},
				"bytes=3-9":                          {3, 9},
				fmt.Sprintf("bytes=5-%d", 100*size):  {5, size - 1},
				fmt.Sprintf("bytes=-%d", 100*size):   {0, size - 1},
				fmt.Sprintf("bytes=%d-", size-1):     {size - 1, size - 1},
				fmt.Sprintf("bytes=0-%d", size-1):    {0, size - 1},
				fmt.Sprintf("bytes=70000-%d", 70003): {70000, 70003},
			} {
				if want[0] >= size {
					continue
				}
				got := get(header("Range", asked), header("If-Range", etag))
				contentRange := fmt.Sprintf("bytes %d-%d/%d", want[0], min(want[1], size-1), size)
				if got.StatusCode != http.StatusPartialContent || got.Header.Get("Content-Range") != contentRange {
					t.Errorf("Range %s: %d, Content-Range %q, expected %q", asked, got.StatusCode, got.Header.Get("Content-Range"), contentRange)
				} else if !bytes.Equal(got.body, plain.body[want[0]:min(want[1]+1, size)]) {
					t.Errorf("Range %s: wrong bytes", asked)
				}
			}
			for _, asked := range []string{"bytes=" + strconv.Itoa(size) + "-", "bytes=-0", "bytes=9-3", "bytes=-"} {
				got := get(header("Range", asked))
				expect(t, got, http.StatusRequestedRangeNotSatisfiable, "range")
				if got.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", size) {
					t.Errorf("Range %s: Content-Range %q", asked, got.Header.Get("Content-Range"))
				}
			}
			for name, edit := range map[string][]func(*http.Request){
				"If-Range of another file": {header("Range", "bytes=5-9"), header("If-Range", `"other"`)},
				"several ranges":           {header("Range", "bytes=0-1,5-6")},
				"other unit":               {header("Range", "lines=0-1")},
			} {
				if got := get(edit...); got.StatusCode != http.StatusOK || !bytes.Equal(got.body, plain.body) {
					t.Errorf("%s: %d with %d bytes, expected the whole file", name, got.StatusCode, len(got.body))
				}
			}
			head := p.send(http.MethodHead, m.Output[0].URL, "", bearerOf(token))
			if head.StatusCode != http.StatusOK || head.ContentLength != int64(size) || len(head.body) != 0 {
				t.Errorf("HEAD: %d, Content-Length %d", head.StatusCode, head.ContentLength)
			}
			expect(t, p.send(http.MethodPost, m.Output[0].URL, "", bearerOf(token)), http.StatusMethodNotAllowed, "GET")
			expect(t, get(header("Accept", "text/html")), http.StatusNotAcceptable, "ndjson")
			expect(t, p.send(http.MethodGet, m.Output[0].URL+"x", "", bearerOf(token)), http.StatusNotFound, "no such file")
		})
	}
}

func TestFILE1_public_files_refuse_a_token(t *testing.T) {
	t.Parallel()
	p := start(t, Options{PublicFiles: true})
	token := p.token("system/*.rs")
	m, _ := p.export("/$export?_type=Organization", token)
	if m.RequiresAccessToken {
		t.Fatal("requiresAccessToken is true")
	}
	expect(t, p.send(http.MethodGet, m.Output[0].URL, "", bearerOf(token)), http.StatusBadRequest, "must not be sent")
	expect(t, p.send(http.MethodGet, m.Output[0].URL, ""), http.StatusOK, `"Organization"`)
}

// writeFolder makes a data folder; names that end in .gz are compressed.
func writeFolder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		data := []byte(content)
		if strings.HasSuffix(name, ".gz") {
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			data = packed.Bytes()
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFolder_serves_lines_byte_for_byte(t *testing.T) {
	t.Parallel()
	long := `{"id":"long","text":"` + strings.Repeat("x", 3<<20) + `","resourceType":"Patient"}`
	dir := writeFolder(t, map[string]string{
		"Patient.ndjson": `{"resourceType":"Patient","id":"a","contained":[{"resourceType":"Device","id":"d"}]}` + "\n\n" +
			`{"id":"b", "n": 1.00, "resourceType" : "Patient"}` + "\r\n" + long + "\n" + `{"broken":` + "\n" +
			`{"resourceType":"Organization","id":"o1"}`,
		"more.000.ndjson.gz": `{"resourceType":"Patient","id":"a","again":"é \" \\"}` + "\n" + `{"resourceType":"Organization","id":"o2"}` + "\n",
		"Condition.ndjson":   "",
		"README.txt":         "no data",
	})
	p := start(t, Options{DataDir: dir, LinesPerFile: 2})
	token := p.token("system/*.rs")
	m, _ := p.export("/$export", token)
	got := p.read(m.Output, token)
	want := map[string][]string{
		"Patient": {
			`{"resourceType":"Patient","id":"a","contained":[{"resourceType":"Device","id":"d"}]}`,
			`{"id":"b", "n": 1.00, "resourceType" : "Patient"}` + "\r", long, `{"broken":`,
			`{"resourceType":"Patient","id":"a","again":"é \" \\"}`,
		},
		"Organization": {`{"resourceType":"Organization","id":"o1"}`, `{"resourceType":"Organization","id":"o2"}`},
	}
	for resourceType, lines := range want {
		if !slices.Equal(got[resourceType], lines) {
			t.Errorf("%s: %d lines that differ from the %d of the folder", resourceType, len(got[resourceType]), len(lines))
		}
	}
	if len(got) != len(want) || len(m.Output) != 4 {
		t.Errorf("%d types in %d files, expected 2 in 4", len(got), len(m.Output))
	}
	empty, _ := p.export("/$export?_type=Condition", token)
	if len(empty.Output) != 0 {
		t.Errorf("an empty file is exported: %v", empty.Output)
	}
	var ids []string
	err := p.Truth(func(resourceType, id string, _ []byte) bool {
		ids = append(ids, resourceType+"/"+id)
		return len(ids) < 4
	})
	if err != nil || !slices.Equal(ids, []string{"Organization/o1", "Organization/o2", "Patient/a", "Patient/b"}) {
		t.Errorf("truth begins with %v (%v)", ids, err)
	}
}

func TestFolder_since_selects_by_lastUpdated_where_there_is_one(t *testing.T) {
	t.Parallel()
	line := func(id, meta string) string { return `{"resourceType":"Patient","id":"` + id + `"` + meta + "}\n" }
	updated := func(at string) string { return `,"meta":{"versionId":"1","lastUpdated":"` + at + `"}` }
	p := start(t, Options{DataDir: writeFolder(t, map[string]string{"p.ndjson": line("old", updated("2024-12-31T23:59:59Z")) +
		line("boundary", updated("2025-01-01T01:00:00+01:00")) + line("new", updated("2025-06-01T00:00:00.123Z")) + line("none", "")})})
	token := p.token("system/*.rs")
	m, _ := p.export("/$export?_since=2025-01-01T00:00:00Z", token)
	var ids []string
	for _, text := range p.read(m.Output, token)["Patient"] {
		ids = append(ids, scanLine([]byte(text)).id)
	}
	if !slices.Equal(ids, []string{"boundary", "new", "none"}) {
		t.Errorf("_since exports %v", ids)
	}
	m, _ = p.export("/$export?_until=2025-01-01T00:00:00Z", token)
	if n := m.Output[0].Count; n != 2 {
		t.Errorf("_until exports %d lines, expected old and none", n)
	}
}

func TestFolder_unreadable_data_are_refused_at_start(t *testing.T) {
	t.Parallel()
	dir := writeFolder(t, map[string]string{"1.ndjson": `{"id":"no type anywhere"}`})
	if _, err := openFolder(dir); err == nil || !strings.Contains(err.Error(), "1.ndjson") {
		t.Errorf("a line without type: %v", err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Patient.ndjson.gz"), []byte("no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(dir); err == nil || !strings.Contains(err.Error(), "Patient.ndjson.gz") {
		t.Errorf("a broken gzip file: %v", err)
	}
}

func TestScanLine_sees_the_outermost_members_only(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]scanned{
		`{"resourceType":"A","id":"1","meta":{"lastUpdated":"t"}}`:                                       {"A", "1", "t"},
		` { "meta" : { "tag":[{"lastUpdated":"x"}] , "lastUpdated":"t"},"id":"1","resourceType":"A"}`:    {"A", "1", "t"},
		`{"contained":[{"resourceType":"B","id":"2"}],"text":"\\\"}{","id":"\u00e9","resourceType":"A"}`: {"A", "é", ""},
		`{"id":1,"resourceType":null}`:      {},
		`{"resourceType":"A","id":"unfinis`: {"A", "", ""},
		`["resourceType"]`:                  {},
		``:                                  {},
		`{"a":tru`:                          {},
	} {
		if got := scanLine([]byte(line)); got != want {
			t.Errorf("%s: %+v, expected %+v", line, got, want)
		}
	}
}

func FuzzScanLine(f *testing.F) {
	f.Add([]byte(`{"resourceType":"A","id":"1","meta":{"lastUpdated":"t"}}`))
	f.Add([]byte(`{"a":"\\\"","b":[1,{"c":null}],"id":"x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		got := scanLine(line)
		if !utf8.Valid(line) { // encoding/json puts U+FFFD there, and a payer sends what it has
			return
		}
		var doc struct {
			ID *string `json:"id"`
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(line, &members) != nil || json.Unmarshal(line, &doc) != nil || doc.ID == nil {
			return
		}
		// encoding/json folds the case of names and lets the last of several win.
		if bytes.Count(bytes.ToLower(line), []byte(`"id"`)) == 1 && members["id"] != nil && got.id != *doc.ID {
			t.Errorf("id of %q is %q, expected %q", line, got.id, *doc.ID)
		}
	})
}

func BenchmarkExport(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip", "gzip from memory"} {
		b.Run(encoding, func(b *testing.B) {
			o := Options{Patients: 400, Seed: 1, CacheBytes: -1, TokenLifetime: time.Hour}
			if encoding == "gzip from memory" {
				o.CacheBytes = 0
			}
			p := start(b, o)
			token := p.token("system/*.rs")
			m, _ := p.export("/$export?_type=ExplanationOfBenefit", token)
			accept, _, _ := strings.Cut(encoding, " ")
			plain := p.send(http.MethodGet, m.Output[0].URL, "", bearerOf(token))
			b.SetBytes(int64(len(plain.body)))
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, m.Output[0].URL, nil)
				if err != nil {
					b.Fatal(err)
				}
				bearerOf(token)(req)
				req.Header.Set("Accept-Encoding", accept)
				resp, err := p.http.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				if err := resp.Body.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
