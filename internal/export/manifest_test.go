package export

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// summary renders all that was read of a manifest.
func summary(m *Manifest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "transactionTime %q is %s\nrequest %q\nrequiresAccessToken %v\norganizedBy %q\nnext %q\nextension %s\n",
		m.TransactionTime, m.Time.Format(time.RFC3339Nano), m.Request, m.RequiresAccessToken, m.OutputOrganizedBy, m.Next, m.Extension)
	for _, name := range slices.Sorted(maps.Keys(m.Unknown)) {
		fmt.Fprintf(&b, "unknown %s = %s\n", name, m.Unknown[name])
	}
	for _, group := range []struct {
		name  string
		files []File
	}{{"output", m.Output}, {"deleted", m.Deleted}, {"error", m.Errors}} {
		for _, f := range group.files {
			fmt.Fprintf(&b, "%s %s %s count=%d token=%v size=%d", group.name, f.Type, f.URL, f.Count, f.RequiresAccessToken, f.Size)
			if f.SHA256 != "" {
				fmt.Fprintf(&b, " sha256=%s", f.SHA256)
			}
			if f.ContinuesIn != "" {
				fmt.Fprintf(&b, " continuesIn=%s", f.ContinuesIn)
			}
			if f.CountSeverity != nil {
				fmt.Fprintf(&b, " countSeverity=%s", f.CountSeverity)
			}
			fmt.Fprintln(&b)
		}
	}
	fmt.Fprintf(&b, "hasDeleted %v\n", m.HasDeleted)
	for _, warning := range m.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	return b.String()
}

func TestVER1_goldenManifestsOfEachVersion(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://payer.example/r4")
	inputs, err := filepath.Glob("testdata/manifest/*.json")
	if err != nil || len(inputs) < 8 {
		t.Fatalf("got %d manifests, %v", len(inputs), err)
	}
	for _, input := range inputs {
		data, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.parseManifest(iotest.OneByteReader(strings.NewReader(string(data))), mustParse(t, "https://payer.example/r4/jobs/1"))
		if err != nil {
			t.Errorf("%s: %v", input, err)
			continue
		}
		golden := strings.TrimSuffix(input, ".json") + ".golden"
		got := summary(m)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", input, got, want)
		}
	}
}

func parse(t *testing.T, text string) (*Manifest, error) {
	t.Helper()
	c := newClient(t, "https://payer.example/r4")
	return c.parseManifest(strings.NewReader(text), mustParse(t, "https://payer.example/r4/jobs/1?x=y"))
}

func TestMAN1_everyMemberButOutputMayBeMissing(t *testing.T) {
	t.Parallel()
	full := map[string]any{
		"transactionTime": "2026-01-01T00:00:00Z", "request": "https://payer.example/r4/$export", "requiresAccessToken": "false",
		"output": []any{map[string]any{"type": "Patient", "url": "https://store.example/1"}}, "error": nil,
	}
	for name := range full {
		part := maps.Clone(full)
		delete(part, name)
		data, _ := json.Marshal(part)
		m, err := parse(t, string(data))
		if name == "output" {
			if _, ok := errors.AsType[notManifestError](err); !ok {
				t.Errorf("without output: got %v", err)
			}
			continue
		}
		if err != nil || len(m.Output) != 1 {
			t.Errorf("without %s: got %+v, %v", name, m, err)
			continue
		}
		if m.Output[0].RequiresAccessToken {
			t.Errorf("without %s: got a token for a file elsewhere that needs none", name)
		}
	}
}

func TestMAN1_aMissingRequiresAccessTokenFollowsTheOrigin(t *testing.T) {
	t.Parallel()
	m, err := parse(t, `{"output":[{"url":"https://payer.example/1"},{"url":"https://store.example/1"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if !m.RequiresAccessToken || !m.Output[0].RequiresAccessToken || m.Output[1].RequiresAccessToken {
		t.Errorf("got %+v", m)
	}
}

func TestMAN2_transactionTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"2026-01-01T00:00:00Z"`:                "2026-01-01T00:00:00Z",
		`"2026-01-01T00:00:00.123456789+05:30"`: "2025-12-31T18:30:00.123456789Z",
		`"2026-01-01T00:00:00.000+0000"`:        "2026-01-01T00:00:00Z", // Java's, where nobody has set it up
		`"2025-12-31T19:00:00-0500"`:            "2026-01-01T00:00:00Z",
		`"2026-01-01"`:                          "0001-01-01T00:00:00Z",
		`17`:                                    "0001-01-01T00:00:00Z",
		`null`:                                  "0001-01-01T00:00:00Z",
		`"\u0000"`:                              "0001-01-01T00:00:00Z",
	} {
		m, err := parse(t, `{"transactionTime":`+text+`,"output":[]}`)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Time.Format(time.RFC3339Nano); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestMAN3_aHundredThousandFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a large manifest")
	}
	const files = 100_000
	reader, writer := io.Pipe()
	go func() {
		_, _ = io.WriteString(writer, `{"output":[`)
		for i := range files {
			if i > 0 {
				_, _ = io.WriteString(writer, ",")
			}
			_, _ = fmt.Fprintf(writer, `{"type":"Patient","url":"https://payer.example/files/%d.ndjson","count":%d}`, i, i)
		}
		_, _ = io.WriteString(writer, `]}`)
		_ = writer.Close()
	}()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m, err := ParseManifest(reader, mustParse(t, "https://payer.example/"), ManifestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(m.Output) != files || m.Output[files-1].Count != files-1 {
		t.Errorf("got %d files, the last %+v", len(m.Output), m.Output[len(m.Output)-1])
	}
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 100<<20 {
		t.Errorf("got %d MiB for %d files, want under 100", used>>20, files)
	}
	runtime.KeepAlive(m)
}

func TestMAN4_urls(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"f/1.ndjson":                      "https://payer.example/r4/jobs/f/1.ndjson",
		"/f/1.ndjson?a=%2F":               "https://payer.example/f/1.ndjson?a=%2F",
		"//payer.example/1":               "https://payer.example/1",
		"http://payer.example/1":          "https://payer.example/1",
		"http://payer.example:8080/1":     "https://payer.example/1",
		"https://store.example/a%20b#x":   "https://store.example/a%20b",
		"https://user:pw@payer.example/1": "",
		"file:///etc/passwd":              "",
		"javascript:alert(1)":             "",
		"http://store.example/1":          "",
		"":                                "",
		"https://":                        "",
		"https://payer.example:port/":     "",
		"\x7f://":                         "",
	} {
		item, _ := json.Marshal(map[string]string{"type": "Patient", "url": text})
		m, err := parse(t, `{"output":[`+string(item)+`]}`)
		if want == "" {
			var bad *badURLError
			if !errors.As(err, &bad) || bad.list != "output" {
				t.Errorf("%q: got %v, want a refused URL", text, err)
			}
			if err != nil && strings.Contains(err.Error(), "pw") {
				t.Errorf("the error quotes the URL: %v", err)
			}
			continue
		}
		if err != nil || m.Output[0].URL != want {
			t.Errorf("%q: got %+v, %v, want %s", text, m, err, want)
		}
	}
}

func TestPOLL5_whatIsNoManifest(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `[]`, `null`, `"output"`, `{}`, `{"output":{}}`, `{"output":[1]}`, `{"output":["x"]}`, `{"output":[]`, `{"output":[]}}`,
		`{"output":[]} {"output":[]}`, `<html>`, `{"resourceType":"Bundle","entry":[]}`, `{"output":[{"url":"https://x/1"}`,
		`{"resourceType":"OperationOutcome","issue":[]}`, "{\"output\":[]}\n<!-- cached -->",
	} {
		if m, err := parse(t, text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, m)
		}
	}
	for _, text := range []string{`{"output":[]}`, `{"output":null}`, "\ufeff{\"output\":[]}\n", `{"output":[],"link":{}}`} {
		if m, err := parse(t, text); err != nil || len(m.Output) != 0 {
			t.Errorf("%q: got %+v, %v", text, m, err)
		}
	}
}

func TestMAN6_unknownMembersAreKeptWithinBounds(t *testing.T) {
	t.Parallel()
	m, err := parse(t, `{"output":[{"url":"/1","sparkle":[1.0]}],"big":"`+strings.Repeat("x", maxUnknownBytes)+`","a":1.00}`)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Unknown["a"]) != "1.00" || string(m.Output[0].Unknown["sparkle"]) != "[1.0]" || m.Unknown["big"] != nil {
		t.Errorf("got %s and %s", m.Unknown, m.Output[0].Unknown)
	}
	if len(m.Warnings) != 1 {
		t.Errorf("got warnings %q", m.Warnings)
	}
}

func FuzzParseManifest(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/manifest/*.json")
	for _, input := range inputs {
		data, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"output":[{"url":"\ud800","count":1e400}],"link":[{"relation":"next","url":"?"}]}`))
	base, _ := url.Parse("https://payer.example/r4/jobs/1")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(strings.NewReader(string(data)), base, ManifestOptions{})
		if err != nil {
			return
		}
		if !json.Valid(trimBOM(data)) {
			t.Fatalf("took %q, which is no JSON", data)
		}
		for _, file := range slices.Concat(m.Output, m.Deleted, m.Errors) {
			u, err := url.Parse(file.URL)
			if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
				t.Fatalf("took URL %q", file.URL)
			}
			if file.Count < -1 || file.Size < -1 {
				t.Fatalf("got count %d and size %d", file.Count, file.Size)
			}
		}
	})
}

func trimBOM(data []byte) []byte { return []byte(strings.TrimPrefix(string(data), byteOrderMark)) }
