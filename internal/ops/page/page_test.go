package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

func TestOverview_shows_trouble_first_and_why(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "calm", "broken", "late", "held_back", "busy", "at_rest", "new_one")
	s.execute(`INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_at, created_at, finished_at, error_code, error, hint) VALUES
		('calm', 'published', 'full', 'manual', 's', now() - '1 h'::interval, now() - '1 h'::interval, now() - '1 h'::interval, '', '', ''),
		('broken', 'published', 'full', 'manual', 's', now() - '9 h'::interval, now() - '9 h'::interval, now() - '9 h'::interval, '', '', ''),
		('broken', 'failed', 'full', 'manual', 's', NULL, now(), now(), 'server_error', 'the payer said <script>alert(1)</script>', 'ask the payer'),
		('late', 'published', 'full', 'manual', 's', now() - '3 days'::interval, now() - '3 days'::interval, now() - '3 days'::interval, '', '', ''),
		('held_back', 'held', 'full', 'manual', 's', NULL, now(), NULL, 'ghost_guard', 'too many ghosts', 'look'),
		('busy', 'loading', 'full', 'manual', 's', NULL, now() - '5 min'::interval, NULL, '', '', ''),
		('at_rest', 'published', 'full', 'manual', 's', now(), now(), now(), '', '', '')`)
	s.execute(`INSERT INTO ingest.export_file (export_id, ordinal, place, kind, resource_type, url, requires_token, state, lines, bytes, expected_count)
		SELECT id, n, n, 'output', 'Patient', 'https://x/?sig=sEcReT', false, CASE n WHEN 1 THEN 'loaded' ELSE 'queued' END, 250 / n, 1000, 500
		FROM ingest.export, generate_series(1, 2) AS n WHERE payer = 'busy'`)
	s.execute(`INSERT INTO ingest.incident (payer, event, code, export_id, exports, opened_at) VALUES ('busy', 'failed', 'server_error', 1, 3, now() - '1 day'::interval)`)
	s.execute(`UPDATE ingest.export SET trouble_at = now(), trouble_code = 'unavailable', trouble = 'file 2: <b>503</b>', trouble_hint = 'it goes on by itself'
		WHERE payer IN ('busy', 'held_back', 'calm')`)
	b := s.browser()
	b.signIn("dana", "secret")
	b.post("/payers/at_rest/pause", nil)
	a := b.get("/")
	last := -1
	for _, name := range []string{"broken", "held_back", "busy", "late", "at_rest", "calm", "new_one"} {
		at := strings.Index(a.body, `id="payer-`+name+`"`)
		if at < last {
			t.Errorf("%s stands before those in more trouble", name)
		}
		last = at
	}
	for _, want := range []string{
		"server_error", "ask the payer", "&lt;script&gt;alert(1)", "ghost_guard", "/exports/5/release", "failing for", "3 exports",
		`value="37"`, "1 of 2 files", "375 lines", "stale for", "paused by dana", "/payers/at_rest/resume", "Last 2 runs: 1 failed, 1 published.",
		"no runs yet", "<b>0</b> of 0 instances alive", "file 2: &lt;b&gt;503", "it goes on by itself",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	for _, never := range []string{"<script>alert", "sEcReT", "hunter2", " style=", "onclick"} {
		if strings.Contains(a.body, never) {
			t.Errorf("the overview says %q", never)
		}
	}
	if got := strings.Count(a.body, "tries again"); got != 1 { // one is over, and one waits for an operator
		t.Errorf("%d exports are said to try again, want 1", got)
	}
	if page := b.get("/exports/6").body; !strings.Contains(page, "tries again") || !strings.Contains(page, "it goes on by itself") {
		t.Error("the page of an export does not say why it tries again")
	}
	for query, shown := range map[string]int{"": 7, "?q=LATE": 1, "?state=failed": 1, "?state=held": 1, "?state=stale": 1, "?state=running&q=us": 1, "?q=zzz": 0, "?state=good": 1} {
		body := b.get("/" + query).body
		if got := strings.Count(body, `<tbody id="payer-`) - strings.Count(body, ` hidden>`+"\n"+`<tr role="row">`); got != shown {
			t.Errorf("%q shows %d payers, want %d", query, got, shown)
		}
	}
	if a := b.get("/nothing"); a.status != http.StatusNotFound || !strings.Contains(a.body, "There is no page at this address.") {
		t.Errorf("an unknown page: got %d", a.status)
	}
	for _, path := range []string{"/exports/4711", "/exports/x", "/exports/-1", "/payers/nobody", "/exports/1/dance", "/payers/calm/dance", "/exports/1/cancel/x"} {
		if a := b.get(path); a.status != http.StatusNotFound || !strings.Contains(a.body, "<main") {
			t.Errorf("%s: got %d", path, a.status)
		}
	}
}

func TestExport_shows_its_ledger_its_files_and_its_quarantine_without_what_the_lines_hold(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	s.execute(`INSERT INTO ingest.export (payer, state, kind, trigger, series, transaction_time, created_at, kicked_off_at, manifest_at, loaded_at, finished_at,
		lines, bytes, inserted, updated, unchanged, superseded, quarantined)
		VALUES ('p', 'published', 'full', 'manual', 's', '2026-01-01T00:00:00Z', now() - '1 h'::interval, now() - '59 min'::interval, now() - '50 min'::interval,
			now() - '9 min'::interval, now(), 1100, 5000, 1000, 50, 30, 10, 8)`)
	s.execute(`INSERT INTO ingest.export_file (export_id, ordinal, place, kind, resource_type, url, requires_token, state, lines, quarantined, outcomes)
		VALUES (1, 0, 'a', 'output', 'Patient', 'https://x/?sig=sEcReT', false, 'loaded', 1100, 7, 2),
			(1, 1, 'b', 'deleted', 'Bundle', 'https://x/?sig=sEcReT', false, 'loaded', 5, 1, 0)`)
	s.execute(`INSERT INTO ingest.export_type (export_id, resource_type, inserted, updated, unchanged, superseded) VALUES (1, 'Patient', 1000, 50, 30, 10)`)
	s.execute(`INSERT INTO ingest.quarantine (export_id, payer, file, line, byte_offset, reason, detail, resource_type, resource_id, raw, raw_bytes)
		SELECT 1, 'p', 0, 1234, 1, 'not_json', 'expected a value', 'Patient', 'patient-of-dr-who', 'PHI PHI PHI', 11 FROM generate_series(1, 7)`)
	b := s.browser()
	b.signIn("dana", "secret")
	a := b.get("/exports/1")
	for _, want := range []string{
		"Does not balance:", "1,000 inserted + 50 updated + 30 unchanged + 10 superseded + 7 quarantined + 2 that are no resources", "<b>7</b> not_json",
		"1,234", "expected a value", "accepted by the payer", "2026-01-01T00:00:00Z", "41m",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, never := range []string{"PHI PHI", "patient-of-dr-who", "sEcReT"} {
		if strings.Contains(a.body, never) {
			t.Errorf("the page says %q", never)
		}
	}
	s.execute(`UPDATE ingest.export SET inserted = 1001`)
	s.page.known.forget()
	if a := b.get("/exports/1"); !strings.Contains(a.body, "<b>Balances:</b> each of the 1,100 lines") {
		t.Error("a ledger that balances is not said to")
	}
}

func TestPayer_shows_its_settings_token_and_keys_without_secrets(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	b := s.browser()
	b.signIn("dana", "secret")
	body := b.get("/payers/p").body
	for _, want := range []string{
		"live", "auth.example.org", "invalid_client", "register the key", "Signing key", "ES384", "Further key", "published", "fhir_url", "https://fhir.example.org/p",
		"@daily", "Nobody has changed anything here.",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Index(body, "<code>k2</code> ES384") > strings.Index(body, "<code>k1</code> RS384") {
		t.Error("the payer's key does not stand first")
	}
	if body := b.get("/configuration").body; !strings.Contains(body, "fhir_url") || strings.Contains(body, "hunter2") {
		t.Errorf("the configuration is shown as %s", body)
	}
}

func TestActs_do_what_the_API_does_and_leave_its_events(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p", "q")
	b := s.browser()
	b.signIn("dana", "secret")
	held := func() { s.execute(`UPDATE ingest.export SET state = 'held', finished_at = NULL WHERE id = 1`) }
	for i, step := range []struct {
		path   string
		before func()
		status int
		to     string
	}{
		{"/payers/p/run-full", nil, 303, "/?done=run-full"},
		{"/payers/p/run", nil, 409, ""},
		{"/payers/nobody/run", nil, 404, ""},
		{"/payers/p/dance", nil, 404, ""},
		{"/exports/1/release", nil, 409, ""},
		{"/exports/1/cancel", nil, 303, "/exports/1?done=cancel"},
		{"/exports/4711/cancel", nil, 404, ""},
		{"/exports/1/retry", nil, 303, "/exports/3?done=retry"},
		{"/exports/1/release", held, 303, "/exports/1?done=release"},
		{"/exports/1/reject", held, 303, "/exports/1?done=reject"},
		{"/payers/q/pause", nil, 303, "/?done=pause"},
		{"/payers/q/pause", nil, 303, "/?done=nothing"},
		{"/payers/q/resume", nil, 303, "/?done=resume"},
	} {
		if step.before != nil {
			s.execute(`UPDATE ingest.export SET state = 'failed' WHERE id > 1`)
			step.before()
		}
		a := b.post(step.path, nil)
		to := a.header.Get("Location")
		if step.to == "/exports/3?done=retry" && strings.HasSuffix(to, "?done=retry") {
			to = step.to // how many numbers were spared is the store's matter
		}
		if a.status != step.status || to != step.to {
			t.Errorf("step %d, %s: got %d to %q, want %d to %q: %.400s", i, step.path, a.status, to, step.status, step.to, a.body)
		}
	}
	events, err := s.store.AuditEvents(t.Context(), store.AuditFilter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		if e.Action == store.ActionMigrate {
			continue
		}
		if e.Actor != "dana" || e.Source != store.SourceAPI || e.Host != "server" || e.RemoteAddress != "127.0.0.1" {
			t.Errorf("an event says %+v", e)
		}
		got = append(got, e.Action)
	}
	if want := "resume pause reject release retry cancel run"; strings.Join(got, " ") != want {
		t.Errorf("the audit holds %q, want %q", got, want)
	}
	for path, want := range map[string]string{
		"/exports/1?done=reject": "The export was rejected.", "/?done=<b>": `role="status" hidden></div>`, "/exports/1/retry": "Retry export 1 of p?",
		"/payers/p/run-full": "Ask p for all of its data?",
	} {
		if body := b.get(path).body; !strings.Contains(body, want) || strings.Contains(body, "<b></") {
			t.Errorf("%s does not say %q", path, want)
		}
	}
	if a := b.post("/payers/p/pause", url.Values{"back": {"//evil.example"}}); a.header.Get("Location") != "/?done=pause" {
		t.Errorf("an act leads to %q", a.header.Get("Location"))
	}
}

func TestPage_shows_what_was_last_known_while_the_database_does_not_answer(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	s.execute(`INSERT INTO ingest.export (payer, state, kind, trigger, series, created_at, finished_at) VALUES ('p', 'published', 'full', 'manual', 's', now(), now())`)
	b := s.browser()
	b.signIn("dana", "secret")
	for _, path := range []string{"/", "/exports/1"} {
		if a := b.get(path); a.status != http.StatusOK || strings.Contains(a.body, "<strong>The database does not answer.</strong> <span id=\"down-text\">What is shown is of") {
			t.Fatalf("%s: got %d", path, a.status)
		}
	}
	s.store.Close()
	s.page.known.forget()
	for _, path := range []string{"/", "/exports/1", "/payers/p"} {
		a := b.get(path)
		if path == "/payers/p" {
			if a.status != http.StatusInternalServerError && a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "<main") {
				t.Errorf("%s, of which nothing is known: got %d", path, a.status)
			}
			continue
		}
		if a.status != http.StatusOK || !strings.Contains(a.body, "What is shown is of") || !strings.Contains(a.body, "p</a>") {
			t.Errorf("%s: got %d: %.300s", path, a.status, a.body)
		}
	}
}

// event reads an event of a stream.
func event(t *testing.T, in *bufio.Reader) (string, news) {
	t.Helper()
	var name string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if after, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(after)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var n news
			if err := json.Unmarshal([]byte(data), &n); err != nil {
				t.Fatal(err)
			}
			return name, n
		}
	}
}

func TestStream_tells_what_changes_and_ends_with_the_daemon(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p", "q")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.page.Run(ctx) }()
	b := s.browser()
	b.signIn("dana", "secret")

	open := func(query string) *bufio.Reader {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/stream?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := b.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("the stream is %d %v", response.StatusCode, response.Header)
		}
		return bufio.NewReader(response.Body)
	}
	all := open("sequence=9999&boot=another")
	_, first := event(t, all)
	if len(first.Rows) != 2 || len(first.Order) != 2 || first.Figures["payers"] != 2 {
		t.Errorf("one that knows nothing is told %+v", first)
	}
	watching := open(fmt.Sprintf("watch=q&sequence=%d&boot=%s", first.Sequence, first.Boot))
	s.execute(`INSERT INTO ingest.export (payer, state, kind, trigger, series) VALUES ('q', 'held', 'full', 'manual', 's')`)
	for {
		_, n := event(t, all)
		if len(n.Rows) > 0 {
			if n.Rows["p"] != "" || !strings.Contains(n.Rows["q"], `data-state="held"`) || strings.Join(n.Order, " ") != "q p" || n.Figures["held"] != 1 {
				t.Errorf("of a payer that is held now, it is told %+v", n)
			}
			break
		}
	}
	if name, n := event(t, watching); name != "changed" || len(n.Rows) != 0 || n.Sequence <= first.Sequence {
		t.Errorf("one that watches it is told %s %+v", name, n)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, stream := range []*bufio.Reader{all, watching} {
		for {
			if _, err := stream.ReadString('\n'); err != nil {
				break
			}
		}
	}
	deadline := time.Now().Add(time.Minute)
	for s.page.streams.open.Load() != 0 {
		if time.Now().After(deadline) {
			t.Fatal("streams are open after the end")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStream_takes_only_so_many_viewers(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "p")
	s.page.streams.open.Store(maxStreams)
	if a := s.browser().get("/stream"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("one more: got %d", a.status)
	}
	if n := s.page.streams.open.Load(); n != maxStreams {
		t.Errorf("%d are counted, want %d", n, maxStreams)
	}
}

func TestStream_ends_with_the_sign_in_that_it_was_opened_by(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.page.Run(ctx) }()
	defer func() { stop(); <-done }()
	b := s.browser()
	b.signIn("dana", "secret")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := b.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if a := b.post("/sign-out", nil); a.status != http.StatusSeeOther {
		t.Fatalf("sign out: got %d", a.status)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, response.Body)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("who has signed out is still told what happens")
		_ = response.Body.Close()
		<-ended
	}
}
