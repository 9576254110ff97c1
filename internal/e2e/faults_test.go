package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"ingestd/internal/payersim"
)

// faultExtra is what every payer of the fault tests has beside its base.
const faultExtra = `timezone: UTC
export: {level: group, group_id: "42", types: [Patient, Coverage, ExplanationOfBenefit, Practitioner, Organization], partial_manifests: true}`

// outcomeBody is an OperationOutcome of one issue.
func outcomeBody(severity, code, text string) string {
	return `{resourceType: OperationOutcome, issue: [{severity: ` + severity + `, code: ` + code + `, diagnostics: "` + text + `"}]}`
}

// fault is one way in which the payer misbehaves, and what becomes of the export.
type fault struct {
	name   string
	plan   string // of payersim, in YAML
	extra  string // of the payer's configuration
	failed string // the code that the export fails with; empty: it is published, and the tables equal what the payer holds
	check  func(t *testing.T, s *site, p payer)
}

// The numbers are those of the rows of the fault table in docs/reliability.md.
var faults = []fault{
	{name: "27 33 tokens that are revoked after a few requests, also before a range", plan: "revoke_tokens_after: 3\ncut_file_at_byte: 3000\nfile: {gzip: none}"},
	{
		name: "29 a client that the token endpoint does not know", plan: `token: {answers: [{times: -1, status: 401, body: '{"error":"invalid_client"}'}]}`,
		failed: "auth_invalid_client", check: kickedOff(0),
	},
	{name: "30 31 a token endpoint that is busy, down, behind a gateway, endless, and loses an answer", plan: "token: {answers: " +
		"[{status: 429, headers: {Retry-After: \"1\"}}, {status: 503}, {status: 502, headers: {Content-Type: text/html}, body: \"<html>\"}, " +
		"{status: 500, body: \"{\", padding: 3000000}, {reset: unread}, {reset: granted}]}", check: kickedOff(1)},
	{name: "39 a kick-off is refused with a reason", plan: `kickoff: {answers: [{status: 400, body: '` +
		jsonOf(outcomeBody("error", "processing", "the group is locked")) + `'}]}`, failed: "kickoff_refused", check: saysToOperator("the group is locked")},
	{name: "39 kick-offs are refused for a while", plan: `kickoff: {answers: [{status: 429, headers: {Retry-After: "1"}}, {status: 503}]}`},
	{name: "40 no Content-Location", plan: `kickoff: {content_location: missing}`, failed: "kickoff_no_status_url"},
	{name: "40 a relative Content-Location", plan: `kickoff: {content_location: relative}`},
	{name: "40 a Content-Location elsewhere", plan: `kickoff: {content_location: "https://elsewhere.example"}`, failed: "url_refused"},
	{name: "41 progress that means nothing", plan: "export_duration: 2s\nstatus: {progress: [\"80%\", soon, \"10%\", \"\"]}"},
	{name: "42 Retry-After in odd forms", plan: "status: {answers: [{status: 429, headers: {Retry-After: \"-1\"}}, {status: 503, headers: " +
		"{Retry-After: \"Thu, 01 Jan 2026 00:00:00 GMT\"}}, {status: 429, headers: {Retry-After: soon}}]}", check: polledAtMost(5)},
	{name: "42 Retry-After 0 while the export runs", plan: "export_duration: 2s\nstatus: {retry_after: \"0\"}", check: polledAtMost(20)},
	{name: "43 a passing error of the status", plan: `status: {answers: [{times: 2, status: 500, body: '` +
		jsonOf(outcomeBody("error", "transient", "later")) + `'}]}`},
	{name: "43 an export that has failed", plan: `status: {answers: [{status: 400, body: '` +
		jsonOf(outcomeBody("fatal", "processing", "no disk")) + `'}]}`, failed: "job_failed", check: saysToOperator("no disk")},
	{name: "43 a job that is lost once", plan: `status: {answers: [{status: 410}]}`, check: kickedOff(2)},
	{name: "43 a job that is lost again", plan: `status: {answers: [{times: 2, status: 410}]}`, failed: "job_gone", check: kickedOff(2)},
	{name: "44 a page of HTML for a manifest, and nothing", plan: `status: {answers: [{headers: {Content-Type: text/html}, body: "<html>maintenance"}, {}]}`},
	{
		name: "44 a Bundle for a manifest", plan: `status: {answers: [{body: '{"resourceType":"Bundle","type":"maintenance"}'}]}`,
		failed: "not_a_manifest", check: saysToOperator("maintenance"),
	},
	{name: "44 half a manifest, once", plan: `status: {answers: [{body: '{"transactionTime":"2026-01-01T00:00:00Z","output":['}]}`},
	{name: "44 an OperationOutcome for a manifest", plan: `status: {answers: [{body: '` +
		jsonOf(outcomeBody("information", "informational", "wait")) + `'}]}`, failed: "not_a_manifest"},
	{name: "44 an endless manifest", plan: `status: {answers: [{times: -1, body: "{", padding: 120000000}]}`, failed: "manifest_too_large"},
	{name: "45 empty files and files that are listed twice", plan: `manifest: {empty_files: 50, repeat: 2}`},
	{name: "46 pages, one of which fails for a while", plan: "export_duration: 2s\nmanifest: {files_per_page: 1, page_answers: [{times: 2, status: 502}]}"},
	{name: "46 pages that lead in a circle", plan: `manifest: {files_per_page: 1, loop: true}`, failed: "manifest_pages_endless"},
	{
		name: "46 pages that disagree", plan: `manifest: {files_per_page: 1, page_members: {transactionTime: "2020-01-01T00:00:00Z"}}`,
		failed: "manifest_pages_disagree",
	},
	{name: "47 a count that is wrong", plan: `manifest: {count_off: 1}`, failed: "count_mismatch", check: saysToOperator("the manifest promised")},
	{name: "47 no count", plan: `manifest: {entry: {count: null}}`},
	{name: "47 a count that is no number", plan: `manifest: {entry: {count: many}}`},
	{name: "48 no transactionTime", plan: `manifest: {members: {transactionTime: null}}`, check: noWatermark},
	{
		name: "48 a transactionTime in the future", plan: `manifest: {members: {transactionTime: "2999-01-01T00:00:00Z"}}`,
		check: func(t *testing.T, s *site, p payer) {
			t.Helper()
			if n := s.number(`SELECT count(*) FROM ingest.watermark WHERE payer = $1 AND since > now()`, p.name); n != 0 {
				t.Error("the watermark lies in the future")
			}
		},
	},
	{
		name: "49 files at a metadata address", plan: `manifest: {origin: "https://169.254.169.254", members: {requiresAccessToken: false}}`,
		failed: "address_refused",
	},
	{name: "49 files elsewhere that want the token", plan: `manifest: {origin: "https://elsewhere.example"}`, failed: "file_token_refused"},
	{name: "49 files over http", plan: `manifest: {origin: "http://elsewhere.example"}`, failed: "url_refused"},
	{
		name: "49 a file that redirects to a private address", plan: `file: {answers: [{status: 302, headers: {Location: "https://10.0.0.1/x"}}]}`,
		failed: "address_refused",
	},
	{
		name: "49 a file that redirects to http", plan: `file: {answers: [{status: 302, headers: {Location: "http://elsewhere.example/x"}}]}`,
		failed: "redirect_refused",
	},
	{name: "50 warnings", plan: `manifest: {outcomes: [{severity: warning, code: informational, text: fine}], outcome_member: outcome}`},
	{name: "50 warnings, in a file of another content type", plan: `{manifest: {outcomes: [{severity: warning, code: informational, text: fine}]}, ` +
		`file: {content_type: application/json}}`},
	{name: "50 a fatal issue", plan: `manifest: {outcomes: [{severity: fatal, code: exception, text: lost}]}`, failed: "payer_reported_errors"},
	{name: "51 a DELETE that is refused for good", plan: `delete: {answers: [{times: -1, status: 501}]}`},
	{name: "51 a DELETE that fails once", plan: `delete: {answers: [{status: 503}]}`, check: func(t *testing.T, _ *site, p payer) {
		t.Helper()
		if got := p.sim.Stats(); got.Deletes != 1 {
			t.Errorf("the job was deleted %d times, want once", got.Deletes)
		}
	}},
	{name: "52 connections that break", plan: `cut_file_at_byte: 3000`},
	{name: "52 files that end early, as if that were all", plan: `file: {end_at: 3000, end: eof}`},
	{name: "52 plain files that end early, as if that were all", plan: `file: {end_at: 3000, end: eof, gzip: none}`},
	{name: "53 a break, and ranges", plan: "cut_file_at_byte: 3000\nfile: {gzip: none}"},
	{name: "53 a break, and ranges that are ignored", plan: "cut_file_at_byte: 3000\nfile: {gzip: none, range: ignored}"},
	{name: "53 a break, and ranges that are wrong", plan: "cut_file_at_byte: 3000\nfile: {gzip: none, range: wrong}"},
	{name: "53 a break, and ranges that are refused", plan: "cut_file_at_byte: 3000\nfile: {gzip: none, range: refused}"},
	{name: "53 a break, and another ETag", plan: "cut_file_at_byte: 3000\nfile: {gzip: none, changes_etag: true}"},
	{name: "54 compression that is damaged once", plan: `file: {gzip: corrupt, gzip_times: 1}`},
	{name: "54 compression that ends early once", plan: `file: {gzip: truncated, gzip_times: 1}`},
	{name: "54 several members", plan: `file: {gzip: members}`},
	{name: "54 an empty member behind the end", plan: `file: {gzip: empty_member}`},
	{name: "54 compressed twice", plan: `file: {gzip: double}`},
	{name: "54 garbage behind the end", plan: `file: {gzip: garbage, gzip_times: 1}`},
	{name: "55 URLs that expire", plan: "cut_file_at_byte: 3000\nfile: {expire_after: 1}"},
	{name: "55 URLs that expire with 410", plan: "cut_file_at_byte: 3000\nfile: {expire_after: 1, expired_status: 410}"},
	{name: "56 a slow payer", plan: `bytes_per_second: 20000`},
	{name: "57 a bomb", plan: `file: {gzip: bomb}`, failed: "file_expansion"},
	{name: "57 a line beyond the limit", plan: `file: {long_line: 3000000}`, extra: "load: {quarantine_max_share: 0.5}\nlimits: " + limits +
		", max_line: 1MiB}", check: quarantined(1)},
	{name: "57 a line within the limit", plan: `file: {long_line: 900000}`, extra: "limits: " + limits + ", max_line: 1MiB}", check: hasLongLine},
	{name: "58 CRLF", plan: `file: {text: crlf}`},
	{name: "58 a byte order mark", plan: `file: {text: bom}`},
	{name: "58 blank lines", plan: `file: {text: blank_lines}`},
	{name: "58 no final newline", plan: `file: {text: no_final_newline}`},
	{name: "59 60 61 lines of all bad kinds", plan: badLines, extra: "load: {quarantine_max_share: 0.9}", check: quarantined(int64(len(badKinds)))},
	{name: "65 more bad lines than permitted", plan: badLines, failed: "too_many_bad_lines"},
	{
		name: "66 control characters in what the payer says", plan: `kickoff: {answers: [{status: 400, body: '` +
			`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"x","diagnostics":"a\u001b[31mred\u202egnirts"}]}'}]}`,
		failed: "kickoff_refused", check: showsNoControls,
	},
}

// limits is the beginning of a mapping that every payer has.
const limits = `{downloads: 2, poll_min: 100ms, poll_max: 1s`

// badKinds are lines that cannot be loaded.
var badKinds = []string{
	`not JSON`, `[1]`, `"text"`, `{"resourceType":"Patient","id":"a"}{"resourceType":"Patient","id":"b"}`,
	`{"resourceType":"Patient","id":"c",}`, `{"resourceType":"Patient","id":"d","n":NaN}`, `{"resourceType":"Patient","id":"e","x":"\u0000"}`,
	`{"resourceType":"Patient","id":"f","x":"\ud800"}`, `{"resourceType":"Patient"}`, `{"resourceType":"Patient","id":""}`,
	`{"resourceType":"Patient","id":"` + strings.Repeat("x", 400) + `"}`, `{"id":"g"}`, `{"resourceType":"Nothing","id":"h"}`,
	`{"resourceType":"Coverage","id":"i"}`, `{"resourceType":"Patient","id":"j","x":` + strings.Repeat("[", 12000) + strings.Repeat("]", 12000) + `}`,
	`{"resourceType":"Patient","id":"k","x":"` + "\xff\xfe" + `"}`,
	`{"resourceType":"Patient","id":"l","x":` + strings.Repeat("7", 200_000) + `}`, // more digits than a number of jsonb has
}

var badLines = "bad_lines:\n" + badLineList()

func badLineList() string {
	var b strings.Builder
	for _, raw := range badKinds {
		if strings.Contains(raw, "\xff") { // which YAML cannot hold as it is
			b.WriteString("  - {type: Patient, after_line: 1, raw: \"{\\\"resourceType\\\":\\\"Patient\\\",\\\"id\\\":\\\"k\\\",\\\"x\\\":\\\"\\x07\\\"}\"}\n")
			continue
		}
		b.WriteString("  - {type: Patient, after_line: 1, raw: '" + strings.ReplaceAll(raw, "'", "''") + "'}\n")
	}
	return b.String()
}

// jsonOf writes a YAML flow mapping as the JSON that it nearly is.
func jsonOf(flow string) string {
	return strings.NewReplacer(
		"{resourceType: OperationOutcome, issue: [{severity: ", `{"resourceType":"OperationOutcome","issue":[{"severity":"`,
		", code: ", `","code":"`, ", diagnostics: ", `","diagnostics":`,
	).Replace(flow)
}

func saysToOperator(words string) func(*testing.T, *site, payer) {
	return func(t *testing.T, s *site, p payer) {
		t.Helper()
		if n := s.number(`SELECT count(*) FROM ingest.export WHERE payer = $1 AND position($2 IN error) > 0`, p.name, words); n != 1 {
			t.Errorf("the operator is not told %q", words)
		}
	}
}

func polledAtMost(n int64) func(*testing.T, *site, payer) {
	return func(t *testing.T, _ *site, p payer) {
		t.Helper()
		if got := p.sim.Stats().Polls; got > n {
			t.Errorf("polled %d times, want %d at most", got, n)
		}
	}
}

func kickedOff(n int64) func(*testing.T, *site, payer) {
	return func(t *testing.T, _ *site, p payer) {
		t.Helper()
		if got := p.sim.Stats().KickOffs; got != n {
			t.Errorf("kicked off %d times, want %d", got, n)
		}
	}
}

func quarantined(n int64) func(*testing.T, *site, payer) {
	return func(t *testing.T, s *site, p payer) {
		t.Helper()
		got := s.number(`SELECT count(*) FROM ingest.quarantine AS q JOIN ingest.export AS e ON e.id = q.export_id
			WHERE e.payer = $1 AND q.line > 0 AND q.reason <> '' AND (q.raw_bytes = octet_length(q.raw) OR q.raw_bytes > 1048576)`, p.name)
		if got != n {
			t.Errorf("%d lines are in quarantine as they should be, want %d", got, n)
		}
	}
}

func hasLongLine(t *testing.T, s *site, p payer) {
	t.Helper()
	if n := s.number(`SELECT count(*) FROM fhir.patient WHERE payer = $1 AND id = 'long-line'`, p.name); n != 1 {
		t.Error("the long line was not loaded")
	}
}

func noWatermark(t *testing.T, s *site, p payer) {
	t.Helper()
	if n := s.number(`SELECT count(*) FROM ingest.watermark WHERE payer = $1`, p.name); n != 0 {
		t.Error("the watermark moved")
	}
}

func showsNoControls(t *testing.T, s *site, p payer) {
	t.Helper()
	id := s.number(`SELECT max(id) FROM ingest.export WHERE payer = $1`, p.name)
	out, err := s.run("exports", "show", decimal(id))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "red") || strings.ContainsAny(out, "\x1b\u202e") {
		t.Errorf("shown as %q", out)
	}
}

func TestFaults_of_a_payer_are_survived_or_end_an_export_with_their_name(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	payers := make([]payer, len(faults))
	for i, f := range faults {
		plan := filepath.Join(t.TempDir(), "faults.yaml")
		if err := os.WriteFile(plan, []byte(f.plan), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := payersim.LoadFaults(plan)
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		payers[i] = s.payer("p"+decimal(int64(i)), payersim.Options{Patients: 20, Seed: 7, LinesPerFile: 100, Faults: loaded})
		payers[i].extra = f.extra
		if !strings.Contains(f.extra, "limits:") {
			payers[i].extra += "\nlimits: " + limits + "}"
		}
	}
	s.configure("", payers, faultExtra)
	// Most of the time is waiting, for which the tests' own parallelism is too little.
	results := make([]error, len(faults))
	var group errgroup.Group
	group.SetLimit(12)
	for i := range faults {
		group.Go(func() error {
			_, results[i] = s.run("run", payers[i].name)
			return nil
		})
	}
	_ = group.Wait() // each has its own result
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			p, err := payers[i], results[i]
			of := *s // whose failures are this test's
			of.t = t
			state, code := of.end(p)
			switch {
			case f.failed == "" && (err != nil || state != "published"):
				t.Fatalf("it is %s, with %s: %v", state, code, err)
			case f.failed != "" && (err == nil || state != "failed" || code != f.failed):
				t.Fatalf("it is %s, with %s, want it to fail with %s: %v", state, code, f.failed, err)
			case f.failed == "" && !strings.HasPrefix(f.name, "57 a line within"):
				of.compare(p.name, held(t, p.sim))
			}
			if f.check != nil {
				f.check(t, &of, p)
			}
		})
	}
}

// end is what became of a payer's only export.
func (s *site) end(p payer) (state, code string) {
	s.t.Helper()
	err := s.db.QueryRow(s.t.Context(), `SELECT state, error_code FROM ingest.export WHERE payer = $1`, p.name).Scan(&state, &code)
	if err != nil {
		s.t.Fatal(err)
	}
	return state, code
}
