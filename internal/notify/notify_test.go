package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ingestd/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hook is a receiver of events.
type hook struct {
	url string

	mu       sync.Mutex
	requests []received
}

type received struct {
	header http.Header
	body   []byte
}

func newHook(t *testing.T, answer func(w http.ResponseWriter, n int)) *hook {
	t.Helper()
	h := &hook{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		h.requests = append(h.requests, received{r.Header.Clone(), body})
		n := len(h.requests)
		h.mu.Unlock()
		answer(w, n)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	h.url = server.URL
	return h
}

func (h *hook) got() []received {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]received(nil), h.requests...)
}

func newSender(t *testing.T, target config.Notify) *Sender {
	t.Helper()
	target.Name = "hook"
	if target.Timeout == 0 {
		target.Timeout = 5 * time.Second
	}
	s, err := New(Options{
		Targets: []config.Notify{target}, Version: "test",
		Resolve: func(ctx context.Context, reference config.Secret) ([]byte, error) { return reference.Resolve(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSend_signs_each_request_as_a_receiver_verifies_it(t *testing.T) {
	t.Setenv("HOOK_SECRET", "k3y")
	t.Setenv("HOOK_AUTHORIZATION", "Bearer s3cret")
	h := newHook(t, func(w http.ResponseWriter, n int) {
		if n == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, "thanks")
	})
	s := newSender(t, config.Notify{
		URL: config.Secret(h.url + "/x?key=1"), Secret: "env:HOOK_SECRET",
		Headers: map[string]string{"Authorization": "env:HOOK_AUTHORIZATION", "X-Team": "data"},
	})
	event := Sample(Failed, time.Now())
	answer, err := s.Send(t.Context(), "hook", event)
	if err != nil || answer.Status != 200 || answer.Body != "thanks" {
		t.Fatalf("got %+v, %v, want that it is taken at the second try", answer, err)
	}
	requests := h.got()
	if len(requests) != 2 || string(requests[0].body) != string(requests[1].body) {
		t.Fatalf("got %d requests, want two with one body", len(requests))
	}
	for _, r := range requests {
		if err := Verify([]byte("k3y"), r.header.Get(SignatureHeader), r.body, time.Now()); err != nil {
			t.Error(err)
		}
	}
	last := requests[1]
	if last.header.Get("Authorization") != "Bearer s3cret" || last.header.Get("X-Team") != "data" || last.header.Get(EventHeader) != "1" ||
		last.header.Get("Content-Type") != "application/json" {
		t.Errorf("the headers are %v", last.header)
	}
	var got Event
	if err := json.Unmarshal(last.body, &got); err != nil || got.Event != Failed || got.Code != "kickoff_refused" || got.Export.ID != 42 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestVerify_refuses_what_was_altered_replayed_or_signed_by_another(t *testing.T) {
	t.Parallel()
	secret, body, now := []byte("k3y"), []byte(`{"id":1}`), time.Unix(1_800_000_000, 0)
	header := Sign(secret, body, now)
	for _, test := range []struct {
		name, header string
		secret, body []byte
		now          time.Time
		want         string
	}{
		{"as sent", header, secret, body, now, ""},
		{"a little later", header, secret, body, now.Add(Tolerance), ""},
		{"with a member that is new", "v9=x, " + header, secret, body, now, ""},
		{"with a second signature", strings.Replace(header, ",v1=", ",v1=00,v1=", 1), secret, body, now, ""},
		{"replayed", header, secret, body, now.Add(Tolerance + time.Second), "replay"},
		{"from the future", header, secret, body, now.Add(-Tolerance - time.Second), "replay"},
		{"with another body", header, secret, []byte(`{"id":2}`), now, "not that of this body"},
		{"by another secret", header, []byte("other"), body, now, "not that of this body"},
		{"with a younger time", strings.Replace(header, "t=18", "t=19", 1), secret, body, time.Unix(1_900_000_000, 0), "not that of this body"},
		{"without a signature", "t=1800000000", secret, body, now, "not that of this body"},
		{"without a time", header[strings.Index(header, "v1"):], secret, body, now, "no time"},
		{"nothing", "", secret, body, now, "no time"},
	} {
		err := Verify(test.secret, test.header, test.body, test.now)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestSend_says_what_went_wrong_without_the_URL(t *testing.T) {
	t.Parallel()
	elsewhere := newHook(t, func(http.ResponseWriter, int) {})
	for _, test := range []struct {
		name     string
		answer   func(w http.ResponseWriter, n int)
		requests int
		want     string
	}{
		{"a redirect", func(w http.ResponseWriter, _ int) {
			w.Header().Set("Location", elsewhere.url)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, 1, "redirects are not followed"},
		{"a refusal", func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusForbidden) }, 1, "HTTP 403"},
		{"a failure that stays", func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusInternalServerError) }, 2, "HTTP 500"},
		{"one that asks to wait", func(w http.ResponseWriter, _ int) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 1, "HTTP 503"},
		{"one that hangs", func(http.ResponseWriter, int) { time.Sleep(time.Second) }, 1, "exceeded"},
		{"one that breaks off", func(w http.ResponseWriter, _ int) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}, 2, "send the event"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, test.answer)
			s := newSender(t, config.Notify{URL: config.Secret(h.url + "/HUNTER2?x=HUNTER2"), Timeout: 500 * time.Millisecond})
			answer, err := s.Send(t.Context(), "hook", Sample(Stale, time.Now()))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "HUNTER2") {
				t.Errorf("got %v, want %q and no URL", err, test.want)
			}
			if n := len(h.got()); n != test.requests {
				t.Errorf("it was asked %d times, want %d", n, test.requests)
			}
			var refused *AnswerError
			if errors.As(err, &refused) != strings.Contains(test.want, "HTTP") && test.name != "a redirect" {
				t.Errorf("got %T", err)
			}
			if strings.HasPrefix(test.name, "one that asks") && answer.RetryAfter != 2*time.Minute {
				t.Errorf("RetryAfter is %s, want 2m", answer.RetryAfter)
			}
		})
	}
	if n := len(elsewhere.got()); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

func TestSend_goes_to_https_or_loopback_only_and_reads_no_more_than_it_must(t *testing.T) {
	t.Setenv("HOOK_URL", "http://hooks.example.org/HUNTER2")
	s := newSender(t, config.Notify{URL: "env:HOOK_URL"})
	if _, err := s.Send(t.Context(), "hook", Sample(Test, time.Now())); err == nil || strings.Contains(err.Error(), "HUNTER2") ||
		!strings.Contains(err.Error(), "plain http") {
		t.Errorf("plain http to elsewhere: got %v", err)
	}
	h := newHook(t, func(w http.ResponseWriter, _ int) {
		for range 100 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	s = newSender(t, config.Notify{URL: config.Secret(h.url)})
	answer, err := s.Send(t.Context(), "hook", Sample(Test, time.Now()))
	if err != nil || len(answer.Body) != maxAnswer {
		t.Errorf("got %d bytes, %v, want the first %d", len(answer.Body), err, maxAnswer)
	}
	if _, err := s.Send(t.Context(), "other", Sample(Test, time.Now())); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("an unknown target: got %v", err)
	}
}

func TestRender_writes_what_is_documented(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 30, 0, 0, time.UTC)
	var out strings.Builder
	for _, kind := range []Kind{Failed, Held, Stale, Recovered, Test} {
		event := Sample(kind, now)
		for _, write := range []render{renderJSON, renderSlack} {
			body, err := write(event)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s\n", body)
		}
	}
	const golden = "testdata/bodies.golden"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the bodies are others (UPDATE=1 writes them):\n%s", out.String())
	}
	if body, err := renderSlack(Event{Event: Failed, Payer: "a", Code: "<!channel>", Hint: "a & b"}); err != nil ||
		strings.Contains(string(body), "<!") || !strings.Contains(string(body), "a &amp; b") {
		t.Errorf("got %s, %v: what Slack gives a meaning to is not escaped", body, err)
	}
}

func TestNew_refuses_a_template_that_does_not_fit_every_event(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ body, want string }{
		{`{"text": {{json .Payer}}, "n": {{with .Export}}{{.ID}}{{else}}0{{end}}}`, ""},
		{`{{.Nonsense}}`, "Nonsense"},
		{`{{.Export.ID}}`, "event stale"}, // which has none
		{`{{range $i, $x := .Incidents}}{{template "x"}}{{end}}`, `"x"`},
		{`{{define "x"}}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{{template "x"}}{{end}}{{template "x"}}`, "writes more than"},
	} {
		_, err := New(Options{Targets: []config.Notify{{Name: "own", Body: test.body}}})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.body, err, test.want)
		}
	}
}

func TestWants_follows_the_filters(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Targets: []config.Notify{
		{Name: "all"}, {Name: "failures", Events: []string{"failed", "held"}}, {Name: "acme", Payers: []string{"acme"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		kind        Kind
		payer, want string
	}{
		{Failed, "acme", "[all failures acme]"}, {Failed, "other", "[all failures]"}, {Recovered, "acme", "[all acme]"},
	} {
		if got := fmt.Sprint(s.Wants(test.kind, test.payer)); got != test.want {
			t.Errorf("%s of %s: got %s, want %s", test.kind, test.payer, got, test.want)
		}
	}
}

func TestSign_is_what_the_documented_command_computes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	docs, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	var command string
	for _, block := range strings.Split(string(docs), "```sh\n")[1:] {
		if text, _, ok := strings.Cut(block, "```"); ok && strings.Contains(text, "openssl") {
			command = text
		}
	}
	if command == "" {
		t.Fatal("the documentation shows no command")
	}
	const body = `{"id":1,"hint":"it's \"so\""}`
	header := Sign([]byte("k3y"), []byte(body), time.Unix(1_800_000_000, 0))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Env = append(os.Environ(), "t=1800000000", "secret=k3y", "body="+body)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "t=1800000000,v1=" + strings.TrimSpace(string(out)); header != want {
		t.Errorf("got %s, want %s", header, want)
	}
}
