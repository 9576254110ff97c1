package payersim

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestFaults_say_what_is_wrong_with_them(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"kickoff: {content_location: nowhere}":          "kickoff.content_location",
		"kickoff: {answers: [{}, {status: 42}]}":        "kickoff.answers[1].status",
		"status: {answers: [{after: -1}]}":              "status.answers[0]",
		"delete: {answers: [{reset: maybe}]}":           "delete.answers[0].reset",
		"manifest: {empty_files: -1}":                   "manifest.empty_files",
		"manifest: {outcomes: [{severity: fatal}]}":     "manifest.outcomes[0]",
		"manifest: {page_answers: [{status: 1000}]}":    "manifest.page_answers[0].status",
		"file: {gzip: bad}":                             "file.gzip must be one of corrupt",
		"file: {range: bad}":                            "file.range must be one of ignored",
		"file: {text: bad}":                             "file.text must be one of crlf",
		"file: {end: soon, end_at: 1}":                  "file.end must be one of eof",
		"file: {end_at: 1}":                             "file.end_at needs an end",
		"file: {budget: -1}":                            "file.budget",
		"file: {expired_status: 1}":                     "file.expired_status",
		"manifest: {no_such_fault: 1}":                  "no_such_fault",
		"kickoff: {answers: [{status: 400, text: no}]}": "text",
	} {
		if _, err := parseFaults([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to name %s", text, err, want)
		}
	}
}

func TestPages_appear_while_the_export_runs_for_clients_that_take_them(t *testing.T) {
	t.Parallel()
	p := start(t, Options{LinesPerFile: 6, Faults: Faults{
		ExportDuration: time.Hour, RetryAfter: -1, Manifest: ManifestFaults{FilesPerPage: 2},
	}})
	token := p.token("system/*.rs")
	location := func(path string) string {
		got := p.kick(path, token)
		if got.StatusCode != http.StatusAccepted {
			t.Fatalf("kick-off: %d %s", got.StatusCode, got.body)
		}
		return got.Header.Get("Content-Location")
	}
	ask := func(url string) answer {
		return p.send(http.MethodGet, url, "", bearerOf(token), header("Accept", "application/json"))
	}
	unasked, asked := location("/$export"), location("/$export?allowPartialManifests=true")
	expect(t, p.kick("/$export?allowPartialManifests=maybe", token), http.StatusBadRequest, "allowPartialManifests")
	pass := func(share float64) { // of the export's duration
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, j := range p.jobs {
			took := time.Duration(share * float64(time.Hour))
			j.transactionTime, j.ready = p.now().Add(-took), p.now().Add(time.Hour-took)
		}
	}
	pass(0)
	expect(t, ask(asked), http.StatusAccepted, "")
	pass(0.5)
	if got := ask(unasked); got.StatusCode != http.StatusAccepted || len(got.body) != 0 {
		t.Errorf("a client that did not ask for pages got %d %s", got.StatusCode, got.body)
	}
	var first, second struct {
		Output []manifestEntry
		Link   []struct{ Relation, URL string }
	}
	got := ask(asked)
	if err := json.Unmarshal(got.body, &first); err != nil || got.StatusCode != http.StatusAccepted || len(first.Output) != 2 || len(first.Link) != 1 {
		t.Fatalf("the first page ahead is %d %s", got.StatusCode, got.body)
	}
	got = ask(first.Link[0].URL)
	if err := json.Unmarshal(got.body, &second); err != nil || got.StatusCode != http.StatusOK || second.Output[0] == first.Output[0] {
		t.Fatalf("the second page ahead is %d %s", got.StatusCode, got.body)
	}
	last := strings.Replace(first.Link[0].URL, "page=1", "page=7", 1)
	expect(t, ask(last), http.StatusAccepted, "")
	pass(1)
	expect(t, ask(last), http.StatusOK, "output")
	expect(t, ask(strings.Replace(last, "page=7", "page=700", 1)), http.StatusNotFound, "no such page")
	if got := ask(unasked); got.StatusCode != http.StatusOK {
		t.Errorf("the manifest is %d", got.StatusCode)
	}
}

func TestFaults_can_be_given_one_by_one(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/faults.yaml"
	if err := os.WriteFile(path, []byte("file: {gzip: double, budget: 6}\nexport_duration: 2s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadFaults(path, "file.gzip=corrupt", "status.answers=[{status: 410}]", "cut_file_at_byte=7", "export_duration=1m")
	if err != nil {
		t.Fatal(err)
	}
	if got.File.Gzip != "corrupt" || got.File.Budget != 6 || len(got.Status.Answers) != 1 || got.CutFileAtByte != 7 || got.ExportDuration != time.Minute {
		t.Errorf("got %+v", got)
	}
	for setting, want := range map[string]string{
		"file.gzip": "expected KEY=VALUE", "=1": "expected KEY=VALUE", "file.gzip=bad": "must be one of", "file.nothing=1": "nothing",
		"status.answers=[": "no YAML", "cut_file_at_byte.deeper=1": "cut_file_at_byte",
	} {
		if _, err := LoadFaults("", setting); err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: got %v, want it to say %q", setting, err, want)
		}
	}
}
