package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// controlled is what Direct and Client have in common, as a command uses it.
type controlled interface {
	viewed
	Start(ctx context.Context, payer string, o scheduler.RunOptions) (int64, error)
	Cancel(ctx context.Context, id int64, by store.Actor) error
	Release(ctx context.Context, id int64, by store.Actor) error
	Reject(ctx context.Context, id int64, by store.Actor) error
	Retry(ctx context.Context, id int64, by store.Actor) (int64, error)
	Pause(ctx context.Context, payer string, by store.Actor) ([]string, error)
	Resume(ctx context.Context, payer string, by store.Actor) ([]string, error)
	RetryQuarantine(ctx context.Context, id int64, by store.Actor) (store.Retried, error)
	RemovePayer(ctx context.Context, payer string, yes bool, by store.Actor) (store.Removed, error)
}

// viewed is the part of it that changes nothing.
type viewed interface {
	Status(ctx context.Context) ([]PayerStatus, error)
	Exports(ctx context.Context, f ExportFilter) ([]ExportSummary, error)
	Export(ctx context.Context, id int64) (ExportDetail, error)
	Audit(ctx context.Context, f store.AuditFilter, limit int) ([]store.AuditEvent, error)
	Instances(ctx context.Context) ([]Instance, error)
	Quarantine(ctx context.Context, f store.QuarantineFilter, limit int) ([]QuarantinedLine, error)
	QuarantinedRaw(ctx context.Context, id int64, by store.Actor) (QuarantinedRaw, error)
	Certificate(ctx context.Context, id int64) (store.Certificate, error)
}

// session does all that can be done, and returns what came of each step.
func session(t *testing.T, c controlled, s *store.Store) []string {
	t.Helper()
	ctx := t.Context()
	by := store.Actor{Name: "alice", Source: store.SourceCLI, Host: "desk"}
	var said []string
	say := func(value any, err error) {
		text := fmt.Sprintf("%v", value)
		if err != nil {
			p := Explain(err)
			text = fmt.Sprintf("%d %s: %s (%s)", p.Status, p.Code, p.Message, p.Hint)
		}
		said = append(said, text)
	}
	sayID := func(id int64, err error) { say(id, err) }
	sayDone := func(err error) { say("done", err) }
	sayNames := func(names []string, err error) { say(names, err) }

	sayID(c.Start(ctx, "p", scheduler.RunOptions{Full: true, By: by}))
	sayID(c.Start(ctx, "p", scheduler.RunOptions{By: by}))
	sayID(c.Start(ctx, "nobody", scheduler.RunOptions{By: by}))
	sayDone(c.Release(ctx, 1, by))
	sayDone(c.Cancel(ctx, 1, by))
	sayDone(c.Cancel(ctx, 1, by))
	sayDone(c.Cancel(ctx, 4711, by))
	sayID(c.Retry(ctx, 1, by))
	sayID(c.Retry(ctx, 1, by))
	sayID(c.Retry(ctx, 4711, by))
	execute(t, s, `UPDATE ingest.export SET state = 'held' WHERE id = 2`)
	sayDone(c.Release(ctx, 2, by))
	execute(t, s, `UPDATE ingest.export SET state = 'held' WHERE id = 2`)
	sayDone(c.Reject(ctx, 2, by))
	sayDone(c.Reject(ctx, 2, by))
	sayID(c.Start(ctx, "p", scheduler.RunOptions{Since: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), By: by}))
	sayNames(c.Pause(ctx, "p", by))
	sayNames(c.Pause(ctx, "", by))
	sayNames(c.Pause(ctx, "nobody", by))
	sayNames(c.Resume(ctx, "", by))
	x, err := c.Export(ctx, 3)
	say(fmt.Sprintln(x.ExportID, x.Payer, x.State, x.Kind, x.Since, x.Trigger, x.LastError), err)
	_, err = c.Export(ctx, 4711)
	say(nil, err)
	exports, err := c.Exports(ctx, ExportFilter{Payer: "p", State: store.StateCanceled, Limit: 1})
	for _, x := range exports {
		say(fmt.Sprintln(x.ExportID, x.State, x.ErrorCode, x.FinishedAt != nil), err)
	}
	sessionOfData(t, c, s, say)
	status, err := c.Status(ctx)
	for _, s := range status {
		say(fmt.Sprintln(s.Payer, s.State, s.LastExport != nil), err)
	}
	events, err := c.Audit(ctx, store.AuditFilter{Since: time.Now().Add(-time.Hour)}, 100)
	slices.Reverse(events)
	for _, e := range events {
		if e.Action != store.ActionMigrate {
			say(fmt.Sprintln(e.Action, e.Object, e.Details), err)
		}
	}
	return said
}

// sessionOfData is the part of session that is about what is stored.
func sessionOfData(t *testing.T, c controlled, s *store.Store, say func(any, error)) {
	t.Helper()
	ctx := t.Context()
	by := store.Actor{Name: "alice", Source: store.SourceCLI, Host: "desk"}
	if err := s.Announce(ctx, store.Instance{ID: "i", Host: "h", PID: 7, Version: "v1", Digest: "d", Payers: map[string]string{"elsewhere": "d"}}); err != nil {
		t.Fatal(err)
	}
	instances, err := c.Instances(ctx)
	for _, i := range instances {
		say(fmt.Sprintln(i.Instance, i.Version, i.Schema, i.Live, i.Payers), err)
	}
	execute(t, s, `INSERT INTO ingest.export (id, payer, kind, trigger, state, series, lines, quarantined, cleaned_up_at, finished_at, kicked_off_at)
		OVERRIDING SYSTEM VALUE SELECT n, p, 'full', 'manual', 'published', 's', 1, 1, '2026-01-02T03:04:05Z', '2026-01-02T03:04:05Z', '2026-01-02T03:04:05Z'
		FROM (VALUES (101, 'q'), (102, 'gone')) AS x (n, p)`)
	execute(t, s, `INSERT INTO ingest.quarantine (export_id, payer, file, line, byte_offset, reason, detail, raw, raw_bytes, created_at)
		VALUES (101, 'q', 0, 2, 9, 'not_json', 'expected an object', '\x7b00ff', 3, '2026-01-02T03:04:05Z'),
			(102, 'gone', 1, 3, 9, 'too_long', '', 'x', 7, '2026-01-02T03:04:05Z')`)
	lines, err := c.Quarantine(ctx, store.QuarantineFilter{}, 10)
	say(lines, err)
	for _, f := range []store.QuarantineFilter{{Payer: "q"}, {ExportID: 102}, {Reason: "not_json", Loaded: true}, {Payer: "nobody"}} {
		lines, err := c.Quarantine(ctx, f, 10)
		say(lines, err)
	}
	for _, id := range []int64{1, 2, 4711} {
		line, err := c.QuarantinedRaw(ctx, id, by)
		say(line, err)
	}
	for _, id := range []int64{101, 102, 3, 4711} {
		retried, err := c.RetryQuarantine(ctx, id, by)
		say(retried, err)
	}
	for _, id := range []int64{101, 4711} {
		certificate, err := c.Certificate(ctx, id)
		text, _ := json.Marshal(certificate)
		say(string(text), err)
	}
	for _, step := range []struct {
		payer string
		yes   bool
	}{{"p", true}, {"elsewhere", true}, {"nobody", true}, {"gone", false}, {"gone", true}, {"gone", true}} {
		removed, err := c.RemovePayer(ctx, step.payer, step.yes, by)
		say(removed, err)
	}
}

func TestAPI_tells_what_a_quarantined_line_holds_only_where_it_asks_for_a_token(t *testing.T) {
	t.Parallel()
	d := newDirect(t)
	execute(t, d.Store, `INSERT INTO ingest.export (id, payer, kind, trigger, state, series) OVERRIDING SYSTEM VALUE VALUES (101, 'q', 'full', 'manual', 'published', 's')`)
	execute(t, d.Store, `INSERT INTO ingest.quarantine (export_id, payer, file, line, byte_offset, reason, raw, raw_bytes)
		VALUES (101, 'q', 0, 2, 9, 'not_json', 'JANE DOE', 8)`)
	open, guarded := listen(t, d, ""), listen(t, d, "secret")
	if status, p := ask(t, http.MethodGet, open.URL+"/api/v1/quarantine/1", ""); status != http.StatusForbidden || p.Code != "token_needed" {
		t.Errorf("without a token: got %d %+v", status, p)
	}
	if status, _ := ask(t, http.MethodGet, open.URL+"/api/v1/quarantine", ""); status != http.StatusOK {
		t.Errorf("the list without a token: got %d", status)
	}
	if status, p := ask(t, http.MethodGet, guarded.URL+"/api/v1/quarantine/1", ""); status != http.StatusUnauthorized {
		t.Errorf("with a token, which is not sent: got %d %+v", status, p)
	}
	client, err := NewClient(guarded.URL, "secret")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := client.QuarantinedRaw(t.Context(), 1, store.Actor{Name: "alice"}); err != nil || string(line.Raw) != "JANE DOE" {
		t.Errorf("with the token: got %q, %v", line.Raw, err)
	}
}

func TestClient_does_over_HTTP_what_Direct_does_on_the_database(t *testing.T) {
	t.Parallel()
	direct, behind := newDirect(t), newDirect(t)
	client, err := NewClient(listen(t, behind, "secret").URL+"/", "secret")
	if err != nil {
		t.Fatal(err)
	}
	want, got := session(t, direct, direct.Store), session(t, client, behind.Store)
	if len(want) < 30 {
		t.Fatalf("the session is short: %q", want)
	}
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Errorf("step %d:\nover HTTP %q\ndirectly  %q", i, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
		}
	}
	events, err := behind.Store.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionCancel}, 1)
	if err != nil || len(events) != 1 || events[0].Actor != "alice@desk" || events[0].Source != store.SourceAPI ||
		events[0].Host != "server" || events[0].RemoteAddress != "127.0.0.1" {
		t.Errorf("the audit of a request says %+v, %v", events, err)
	}
}

// ask sends a request and returns the status and what the answer says.
func ask(t *testing.T, method, url, body string, header ...string) (int, Problem) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method != http.MethodGet {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			request.Host = header[i+1]
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p Problem
	if response.StatusCode >= http.StatusBadRequest {
		if err := json.Unmarshal(text, &p); err != nil || p.Code == "" || p.Message == "" || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d with another error than the API's: %s", method, url, response.StatusCode, text)
		}
	}
	return response.StatusCode, p
}

func TestAPI_refuses_what_is_wrong_by_its_status_and_in_JSON(t *testing.T) {
	t.Parallel()
	d := newDirect(t)
	base := listen(t, d, "").URL + "/api/v1"
	if _, err := d.Start(t.Context(), "p", scheduler.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		method, path, body string
		want               int
		code               string
	}{
		{"GET", "/nothing", "", 404, "not_found"},
		{"PUT", "/exports", "", 405, "method"},
		{"GET", "/exports/1/cancel", "", 405, "method"},
		{"GET", "/exports/x", "", 400, "bad_request"},
		{"GET", "/exports/-1", "", 400, "bad_request"},
		{"GET", "/exports/4711", "", 404, "no_export"},
		{"GET", "/exports?limit=0", "", 400, "bad_request"},
		{"GET", "/exports?limit=100000", "", 400, "bad_request"},
		{"GET", "/audit?since=yesterday", "", 400, "bad_request"},
		{"POST", "/exports", ``, 400, "bad_request"},
		{"POST", "/exports", `{"payer":"p"`, 400, "bad_request"},
		{"POST", "/exports", `{"payer":"p"} {}`, 400, "bad_request"},
		{"POST", "/exports", `{"payer":"p","sinec":""}`, 400, "bad_request"},
		{"POST", "/exports", `{"payer":"p","full":true,"since":"2026-01-01T00:00:00Z"}`, 400, "bad_request"},
		{"POST", "/exports", `{"payer":"p","since":"2026"}`, 400, "bad_request"},
		{"POST", "/exports", `{"payer":"` + strings.Repeat("p", 20<<10) + `"}`, 413, "too_large"},
		{"POST", "/exports", `{"payer":"nobody"}`, 404, "unknown_payer"},
		{"POST", "/exports", `{"payer":"p"}`, 409, "export_running"},
		{"POST", "/exports/1/release", ``, 409, "wrong_state"},
		{"POST", "/exports/1/retry", `{}`, 409, "wrong_state"},
		{"POST", "/exports/4711/cancel", `{}`, 404, "no_export"},
		{"POST", "/exports/1/cancel", `{"really":true}`, 400, "bad_request"},
		{"POST", "/payers/nobody/pause", ``, 404, "unknown_payer"},
	} {
		status, p := ask(t, test.method, base+test.path, test.body)
		if status != test.want || p.Code != test.code {
			t.Errorf("%s %s %.60s: got %d %+v, want %d %s", test.method, test.path, test.body, status, p, test.want, test.code)
		}
	}
	if status, _ := ask(t, "POST", base+"/exports", `{"payer":"q","full":true}`); status != http.StatusCreated {
		t.Errorf("a good request: got %d", status)
	}
}

func TestAPI_without_a_token_takes_nothing_from_web_pages(t *testing.T) {
	t.Parallel()
	d := newDirect(t)
	url := listen(t, d, "").URL
	for name, header := range map[string][]string{
		"a form":                           {"Content-Type", "application/x-www-form-urlencoded"},
		"a form with text":                 {"Content-Type", "text/plain"},
		"another origin":                   {"Origin", "https://evil.example"},
		"another port's page":              {"Origin", "http://127.0.0.1:1"},
		"a page, as the browser says":      {"Sec-Fetch-Site", "cross-site"},
		"a name that resolves to loopback": {"Host", "evil.example:8090", "Origin", "http://evil.example:8090"},
		"a sandboxed page":                 {"Origin", "null"},
	} {
		if status, p := ask(t, "POST", url+"/api/v1/pause", `{}`, header...); status != 403 && status != 415 {
			t.Errorf("%s: got %d %+v", name, status, p)
		}
	}
	for _, path := range []string{"/api/v1/payers", "/metrics"} {
		if status, p := ask(t, "GET", url+path, "", "Host", "evil.example"); status != 403 || p.Code != "wrong_host" {
			t.Errorf("GET %s under another name: got %d %+v", path, status, p)
		}
	}
	if pauses, err := d.Store.Pauses(t.Context()); err != nil || len(pauses) != 0 {
		t.Errorf("something was changed: %v, %v", pauses, err)
	}
	for _, host := range []string{"localhost", "LOCALHOST:8090", "127.0.0.1:1", "127.9.9.9", "[::1]:8090", "localhost."} {
		if status, p := ask(t, "POST", url+"/api/v1/pause", `{}`, "Host", host); status != 200 {
			t.Errorf("under %s: got %d %+v", host, status, p)
		}
	}
	if status, _ := ask(t, "GET", url+"/healthz", "", "Host", "evil.example"); status != 200 {
		t.Errorf("health under another name: got %d", status)
	}
}

func TestAPI_asks_for_the_token_and_bounds_guesses(t *testing.T) {
	t.Parallel()
	url := listen(t, newDirect(t), "secret").URL
	right := []string{"Authorization", "Bearer secret"}
	for range 3 * guessBurst { // the right token costs nothing
		if status, p := ask(t, "GET", url+"/api/v1/payers", "", right...); status != 200 {
			t.Fatalf("the right token: got %d %+v", status, p)
		}
	}
	if status, p := ask(t, "POST", url+"/api/v1/pause", "{}", append(right, "Origin", "https://evil.example")...); status != 403 {
		t.Errorf("a page with the token: got %d %+v", status, p)
	}
	refused := map[int]int{}
	for i := range 2 * guessBurst {
		wrong := []string{"Bearer secre", "bearer secret", "secret", "Basic c2VjcmV0", ""}[i%5]
		path := []string{"/api/v1/payers", "/metrics", "/api/v1/nothing"}[i%3]
		status, _ := ask(t, "GET", url+path, "", "Authorization", wrong)
		refused[status]++
	}
	if refused[401] < guessBurst || refused[429] == 0 || refused[401]+refused[429] != 2*guessBurst {
		t.Errorf("of %d guesses got %v; want about %d answers 401, then 429", 2*guessBurst, refused, guessBurst)
	}
	if status, p := ask(t, "GET", url+"/api/v1/payers", "", right...); status != 429 {
		t.Errorf("the right token behind too many guesses: got %d %+v", status, p)
	}
	if status, _ := ask(t, "GET", url+"/healthz", ""); status != 200 {
		t.Errorf("health: got %d", status)
	}
}

func TestGuard_counts_guesses_by_address(t *testing.T) {
	t.Parallel()
	g := NewGuard("secret")
	same := func(a, b string) bool { return g.guesses(a) == g.guesses(b) }
	if !same("192.0.2.1:1", "192.0.2.1:2") || same("192.0.2.1:1", "192.0.2.2:1") || !same("[2001:db8::1]:1", "[2001:db8::2]:1") ||
		same("[2001:db8::1]:1", "[2001:db8:0:1::1]:1") || !same("[::ffff:192.0.2.1]:1", "192.0.2.1:1") {
		t.Error("addresses are told apart wrongly")
	}
	for i := range 3 * maxGuessers {
		g.guesses(fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)).Allow()
	}
	if len(g.guessers) > maxGuessers {
		t.Errorf("%d addresses are remembered, want at most %d", len(g.guessers), maxGuessers)
	}
}

func TestClient_sends_its_token_nowhere_else_and_names_what_is_no_API(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"", "127.0.0.1:8090", "ftp://h", "http://u:p@h", "http://h/?x=1"} {
		if _, err := NewClient(server, ""); err == nil {
			t.Errorf("%q is taken for a server", server)
		}
	}
	for server, taken := range map[string]bool{
		"http://10.1.2.3:8090": false, "http://ingest.example": false, "http://localhost.example": false, "https://ingest.example": true,
		"http://localhost:8090": true, "http://[::1]:8090": true,
	} {
		if _, err := NewClient(server, "secret"); (err == nil) != taken || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s, with a token: %v", server, err)
		}
		if _, err := NewClient(server, ""); err != nil {
			t.Errorf("%s, without a token: %v", server, err)
		}
	}
	d := newDirect(t)
	redirects := newHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, listen(t, d, "").URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	client, err := NewClient(redirects, "secret")
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Pause(t.Context(), "", store.Actor{})
	if p, ok := errors.AsType[*Problem](err); !ok || p.Code != "no_api" {
		t.Errorf("a redirect: got %v", err)
	}
	if pauses, err := d.Store.Pauses(t.Context()); err != nil || !reflect.DeepEqual(pauses, map[string]store.Pause{}) {
		t.Errorf("the redirect was followed: %v, %v", pauses, err)
	}
}

func TestAPI_answers_410_for_an_export_that_is_gone(t *testing.T) {
	t.Parallel()
	p := Explain(fmt.Errorf("show it: %w", &store.GoneError{ID: 17, Payer: "p"}))
	if p.Status != http.StatusGone || p.Code != "export_gone" || !strings.Contains(p.Hint, "export 17") {
		t.Errorf("got %+v", p)
	}
}
