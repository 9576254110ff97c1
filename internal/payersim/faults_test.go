package payersim

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLoadFaults_is_strict(t *testing.T) {
	t.Parallel()
	load := func(text string) (Faults, error) {
		path := filepath.Join(t.TempDir(), "faults.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadFaults(path)
	}
	got, err := load(`
export_duration: 1m30s
retry_after: 5s
poll_tolerance: 10ms
token_endpoint_fail_first: 1
kickoff_fail_first: 2
status_fail_first: 3
file_fail_first: 4
bytes_per_second: 1000000
cut_file_at_byte: 65536
revoke_tokens_after: 20
bad_lines:
  - {type: Patient, after_line: 3, raw: '{"broken":'}
`)
	want := Faults{
		ExportDuration: 90 * time.Second, RetryAfter: 5 * time.Second, PollTolerance: 10 * time.Millisecond,
		TokenEndpointFailFirst: 1, KickOffFailFirst: 2, StatusFailFirst: 3, FileFailFirst: 4, BytesPerSecond: 1_000_000,
		CutFileAtByte: 65536, RevokeTokensAfter: 20, BadLines: []BadLine{{"Patient", 3, `{"broken":`}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v (%v), expected %+v", got, err, want)
	}
	for text, mention := range map[string]string{
		"exportduration: 1s":               "exportduration",
		"status_fail_first: often":         "often",
		"status_fail_first: -1":            "status_fail_first",
		"retry_after: 1s\nretry_after: 2s": "retry_after",
		"bad_lines: [{raw: x}]":            "bad_lines[0]",
		"retry_after: 1s\n---\na: 1":       "document",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%q: error %v, expected one that mentions %q", text, err, mention)
		}
	}
	if _, err := LoadFaults(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file was read")
	}
}

func TestFaults_the_first_requests_of_each_kind_fail(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{KickOffFailFirst: 2, StatusFailFirst: 1, FileFailFirst: 1}})
	token := p.token("system/*.rs")
	unavailable := func(what string, got answer) {
		t.Helper()
		expect(t, got, http.StatusServiceUnavailable, "transient")
		if got.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", what, got.Header.Get("Retry-After"))
		}
	}
	expect(t, p.kick("/$export?_foo=1", token), http.StatusBadRequest, "_foo") // a wrong request does not use a fault up
	unavailable("kick-off", p.kick("/$export", token))
	unavailable("kick-off", p.kick("/$export", token))
	statusURL := p.kick("/$export", token).Header.Get("Content-Location")
	unavailable("status", p.send(http.MethodGet, statusURL, "", bearerOf(token)))
	m := p.manifest(statusURL, token)
	unavailable("file", p.send(http.MethodGet, m.Output[0].URL, "", bearerOf(token)))
	p.read(m.Output, token)
	if stats := p.Stats(); stats.Faults != 4 || stats.KickOffs != 1 {
		t.Errorf("%d faults and %d kick-offs, expected 4 and 1", stats.Faults, stats.KickOffs)
	}
}

func TestFaults_can_be_replaced_while_the_payer_runs(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{KickOffFailFirst: 1 << 30}})
	token := p.token("system/*.rs")
	expect(t, p.kick("/$export", token), http.StatusServiceUnavailable, "transient")
	for range 2 { // the count starts anew each time
		if err := p.SetFaults(Faults{KickOffFailFirst: 1}); err != nil {
			t.Fatal(err)
		}
		expect(t, p.kick("/$export", token), http.StatusServiceUnavailable, "transient")
		expect(t, p.kick("/$export", token), http.StatusAccepted, "")
	}
	if err := p.SetFaults(Faults{BytesPerSecond: -1}); err == nil {
		t.Error("a negative rate was accepted")
	}
}

func TestFaults_tokens_are_revoked_after_some_requests(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Faults: Faults{RevokeTokensAfter: 2}})
	token := p.token("system/*.rs")
	_, statusURL := p.export("/$export", token)
	expect(t, p.send(http.MethodGet, statusURL, "", bearerOf(token)), http.StatusUnauthorized, "revoked")
	expect(t, p.send(http.MethodGet, statusURL, "", bearerOf(p.token("system/*.rs"))), http.StatusOK, "output")
}

func TestFaults_each_file_is_cut_once_at_the_byte(t *testing.T) {
	t.Parallel()
	const at = 1000
	for _, encoding := range []string{"identity", "gzip"} {
		p := start(t, Options{Patients: 300, Faults: Faults{CutFileAtByte: at}, LinesPerFile: 150})
		token := p.token("system/*.rs")
		m, _ := p.export("/$export?_type=Patient", token)
		if len(m.Output) != 2 {
			t.Fatalf("%d files, expected 2", len(m.Output))
		}
		for _, entry := range m.Output {
			cut := p.send(http.MethodGet, entry.URL, "", bearerOf(token), header("Accept-Encoding", encoding))
			if cut.err == nil || len(cut.body) != at {
				t.Errorf("%s: %d bytes and error %v, expected %d and a broken connection", encoding, len(cut.body), cut.err, at)
			}
			whole := p.send(http.MethodGet, entry.URL, "", bearerOf(token), header("Accept-Encoding", encoding))
			if whole.err != nil || !bytes.HasPrefix(whole.body, cut.body) || len(whole.body) <= at {
				t.Errorf("%s: the second read has %d bytes and error %v", encoding, len(whole.body), whole.err)
			}
		}
	}
}

func TestFaults_downloads_are_slowed_down(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Patients: 10, Faults: Faults{BytesPerSecond: 40_000}})
	token := p.token("system/*.rs")
	m, _ := p.export("/$export?_type=Patient", token)
	begin := time.Now()
	got := p.send(http.MethodGet, m.Output[0].URL, "", bearerOf(token))
	least := time.Duration(len(got.body)) * time.Second / 40_000
	if took := time.Since(begin); got.err != nil || took < least*8/10 {
		t.Errorf("%d bytes took %v (%v), expected about %v", len(got.body), took, got.err, least)
	}
}

func TestFaults_bad_lines_are_inserted_and_counted(t *testing.T) {
	t.Parallel()
	bad := []BadLine{
		{"Patient", 0, "first"},
		{"Patient", 4, "after four"},
		{"Patient", 4, "after four too"},
		{"Patient", 5, "after five"},
		{"Patient", 10, "last"},
		{"Patient", 11, "never"},
		{"Coverage", 2, ""},
	}
	p := start(t, Options{Patients: 10, LinesPerFile: 4, Faults: Faults{BadLines: bad}})
	token := p.token("system/*.rs")
	m, _ := p.export("/$export?_type=Patient,Coverage", token)
	var got []string
	for _, line := range p.read(m.Output, token)["Patient"] {
		if strings.HasPrefix(line, "{") {
			line = "good"
		}
		got = append(got, line)
	}
	want := []string{
		"first", "good", "good", "good", "good", "after four", "after four too", "good", "after five", "good", "good", "good", "good", "good", "last",
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q\nexpected %q", got, want)
	}
	size := func(edit ...func(*http.Request)) int {
		return len(p.send(http.MethodGet, m.Output[0].URL, "", append(edit, bearerOf(token))...).body)
	}
	if whole, rest := size(), size(header("Range", "bytes=10-")); rest != whole-10 {
		t.Errorf("a range of a file with bad lines has %d of %d bytes", rest, whole)
	}
	_ = p.Truth(func(_, id string, line []byte) bool {
		if id == "" {
			t.Errorf("the truth holds %q", line)
		}
		return true
	})
}
