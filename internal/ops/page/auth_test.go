package page

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

func TestPage_shows_nothing_to_who_has_not_signed_in(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "bluecross")
	for _, path := range []string{"/", "/payers/bluecross", "/payers/nobody", "/exports", "/exports/1", "/configuration", "/audit", "/stream", "/nothing"} {
		a := s.browser().get(path)
		want := "/sign-in"
		if path != "/" {
			want += "?next=" + url.QueryEscape(path)
		}
		if a.status != http.StatusSeeOther || a.header.Get("Location") != want || strings.Contains(a.body, "bluecross") && !strings.Contains(path, "bluecross") {
			t.Errorf("GET %s: got %d to %q: %.200s", path, a.status, a.header.Get("Location"), a.body)
		}
		if a := s.browser().get(path, "Accept", "*/*"); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("GET %s by a program: got %d", path, a.status)
		}
		if a := s.browser().get(path, "Cookie", "ingestd-session="+strings.Repeat("a", 40)); a.status != http.StatusSeeOther {
			t.Errorf("GET %s with a cookie of its own: got %d", path, a.status)
		}
	}
	if a := s.browser().get("/", "Authorization", "Bearer secret"); a.status != http.StatusOK || !strings.Contains(a.body, "bluecross") {
		t.Errorf("with the token, as a program sends it: got %d", a.status)
	}
	for _, path := range []string{"/payers/bluecross/run", "/payers/bluecross/pause", "/exports/1/cancel"} {
		if a := s.browser().post(path, nil, "Authorization", "Bearer secret"); a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/sign-in") {
			t.Errorf("POST %s without a session: got %d to %q", path, a.status, a.header.Get("Location"))
		}
	}
	if exports, err := s.store.Exports(t.Context(), "", 10); err != nil || len(exports) != 0 {
		t.Errorf("something was started: %v, %v", exports, err)
	}
}

func TestSignIn_gives_a_cookie_that_only_this_listener_sees(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	form := url.Values{"operator": {" dana\x1b[31m "}, "token": {"secret"}, "next": {"/payers/p?x=1"}}
	a := s.browser().do(http.MethodPost, "/sign-in", form)
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/payers/p?x=1" {
		t.Errorf("got %d to %q", a.status, a.header.Get("Location"))
	}
	cookie := a.header.Get("Set-Cookie")
	for _, want := range []string{"ingestd-session-", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q has no %s", cookie, want)
		}
	}
	if strings.Contains(cookie, "Secure") || strings.Contains(cookie, "secret") {
		t.Errorf("over HTTP, the cookie is %q", cookie)
	}
	a = s.browser().do(http.MethodPost, "/sign-in", form, "X-Forwarded-Proto", "https")
	if cookie := a.header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-ingestd-session") || !strings.Contains(cookie, "Secure") {
		t.Errorf("behind TLS, the cookie is %q", cookie)
	}
	for next, want := range map[string]string{
		"//evil.example/": "/", "https://evil.example/": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "": "/", "payers": "/",
		"/%2f/evil.example": "/", "/exports?state=failed": "/exports?state=failed", "/\t/evil.example": "/",
	} {
		form.Set("next", next)
		if a := s.browser().do(http.MethodPost, "/sign-in", form); a.header.Get("Location") != want {
			t.Errorf("next %q leads to %q, want %q", next, a.header.Get("Location"), want)
		}
	}
	form.Set("operator", "  ")
	if a := s.browser().do(http.MethodPost, "/sign-in", form); a.status != http.StatusUnprocessableEntity || a.header.Get("Set-Cookie") != "" {
		t.Errorf("without a name: got %d", a.status)
	}
}

func TestSignIn_bounds_guesses_together_with_the_API(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	got := map[int]int{}
	for i := range 24 {
		if i%3 == 0 {
			got[s.browser().get("/api/v1/payers", "Authorization", "Bearer guess").status]++
			continue
		}
		a := s.browser().do(http.MethodPost, "/sign-in", url.Values{"operator": {"eve"}, "token": {"guess"}})
		if a.header.Get("Set-Cookie") != "" || strings.Contains(a.body, "guess") {
			t.Errorf("a guess: %d %.200s", a.status, a.body)
		}
		got[a.status]++
	}
	if got[401] < 10 || got[401] > 14 || got[429] == 0 || got[401]+got[429] != 24 {
		t.Errorf("of 24 guesses got %v, want about ten answers 401, then 429", got)
	}
	if a := s.browser().do(http.MethodPost, "/sign-in", url.Values{"operator": {"dana"}, "token": {"secret"}}); a.status != http.StatusTooManyRequests {
		t.Errorf("the right token behind too many guesses: got %d", a.status)
	}
}

func TestSession_ends_by_itself_by_the_sign_out_and_with_the_token(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	b := s.browser()
	b.signIn("dana", "secret")
	at, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	stolen := b.client.Jar.Cookies(at)[0]

	// Another instance with the same token knows the session; one with another token does not.
	request := func(name, value string) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: name, Value: value})
		return r
	}
	if is := newSessions("secret").of(request(stolen.Name, stolen.Value)); is.Name != "dana" {
		t.Errorf("another instance takes it for %+v", is)
	}
	for name, other := range map[string]*sessions{"another token": newSessions("secret2"), "no token": newSessions("")} {
		if is := other.of(request(stolen.Name, stolen.Value)); !is.isZero() {
			t.Errorf("an instance with %s takes it for %+v", name, is)
		}
	}
	for i := range len(stolen.Value) {
		changed := []byte(stolen.Value)
		changed[i] ^= 1
		if is := s.page.sessions.of(request(stolen.Name, string(changed))); !is.isZero() {
			// The last character of base64 may hold bits that do not count.
			if i != len(changed)-1 {
				t.Errorf("changed at %d, it is taken for %+v", i, is)
			}
		}
	}
	old := session{ID: "x", Name: "dana", Expires: time.Now().Add(-time.Second)}
	if is := s.page.sessions.of(request(stolen.Name, s.page.sessions.value(old))); !is.isZero() {
		t.Errorf("a session that has ended is taken for %+v", is)
	}

	if a := b.post("/sign-out", url.Values{"csrf": {"wrong"}}); a.status != http.StatusForbidden {
		t.Errorf("a sign-out that a page forged: got %d", a.status)
	}
	if a := b.post("/sign-out", nil); a.status != http.StatusSeeOther {
		t.Errorf("sign out: got %d", a.status)
	}
	if a := b.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("after the sign-out: got %d", a.status)
	}
	if a := s.browser().get("/", "Cookie", stolen.Name+"="+stolen.Value); a.status != http.StatusSeeOther {
		t.Errorf("a cookie that was copied before the sign-out: got %d", a.status)
	}
}

func TestActs_are_refused_from_other_pages(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	b, other := s.browser(), s.browser()
	b.signIn("dana", "secret")
	other.signIn("eve", "secret")
	for name, test := range map[string]struct {
		form   url.Values
		header []string
	}{
		"without the form's token":            {url.Values{"csrf": {""}}, nil},
		"with another session's":              {url.Values{"csrf": {other.csrf}}, nil},
		"from another origin":                 {nil, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}},
		"from another port":                   {nil, []string{"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"}},
		"from a browser that says no site":    {nil, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", ""}},
		"from a sandboxed page":               {nil, []string{"Origin", "null", "Sec-Fetch-Site", ""}},
		"with a body that is no form's":       {url.Values{"csrf": {""}}, []string{"Content-Type", "text/plain"}},
		"with a token of the form in the URL": {url.Values{"csrf": {""}}, nil},
	} {
		path := "/payers/p/run"
		if strings.Contains(name, "URL") {
			path += "?csrf=" + b.csrf
		}
		if a := b.post(path, test.form, test.header...); a.status != http.StatusForbidden {
			t.Errorf("%s: got %d", name, a.status)
		}
	}
	if exports, err := s.store.Exports(t.Context(), "", 10); err != nil || len(exports) != 0 {
		t.Errorf("something was started: %v, %v", exports, err)
	}
	if a := b.post("/payers/p/run", nil); a.status != http.StatusSeeOther {
		t.Errorf("from the page itself: got %d", a.status)
	}
}

func TestPage_without_a_token_is_for_loopback_names_and_acts_want_a_name(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "p")
	b := s.browser()
	for _, path := range []string{"/", "/sign-in", "/payers/p", "/stream"} {
		if a := b.get(path, "Host", "evil.example"); a.status != http.StatusForbidden {
			t.Errorf("GET %s under a name that was made to resolve to loopback: got %d", path, a.status)
		}
	}
	if a := b.get("/"); a.status != http.StatusOK || !strings.Contains(a.body, `href="/sign-in"`) {
		t.Errorf("GET /: got %d", a.status)
	}
	if a := b.post("/payers/p/run", url.Values{"back": {"/payers/p"}}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/sign-in?next=%2Fpayers%2Fp" {
		t.Errorf("an act of nobody: got %d to %q", a.status, a.header.Get("Location"))
	}
	if a := b.post("/payers/p/run", nil, "Host", "evil.example", "Origin", "http://evil.example"); a.status != http.StatusForbidden {
		t.Errorf("an act under another name: got %d", a.status)
	}
	b.signIn("dana", "")
	if a := b.post("/payers/p/run", nil); a.status != http.StatusSeeOther {
		t.Errorf("an act: got %d", a.status)
	}
	events, err := s.store.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionRun}, 5)
	if err != nil || len(events) != 1 || events[0].Actor != "dana" || events[0].RemoteAddress != "127.0.0.1" {
		t.Errorf("the audit says %+v, %v", events, err)
	}
}

func TestPage_sends_headers_that_keep_others_out(t *testing.T) {
	t.Parallel()
	s := newSite(t, "secret", "p")
	b := s.browser()
	b.signIn("dana", "secret")
	for _, path := range []string{"/", "/sign-in", "/nothing", "/payers/p", s.page.assets.url("page.js")} {
		h := b.get(path).header
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'", "style-src 'self'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy %q has no %s", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("Referrer-Policy") != "same-origin" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: headers are %v", path, h)
		}
		asset := strings.HasPrefix(path, "/assets/")
		if got := h.Get("Cache-Control"); asset != strings.Contains(got, "immutable") || !asset && got != "no-store" {
			t.Errorf("%s: Cache-Control is %q", path, got)
		}
	}
	script := s.page.assets.url("page.js")
	if a := s.browser().get(script); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/javascript") {
		t.Errorf("the script without a sign-in: got %d %v", a.status, a.header)
	} else if a := s.browser().get(script, "If-None-Match", a.header.Get("ETag")); a.status != http.StatusNotModified {
		t.Errorf("the script again: got %d", a.status)
	}
	if a := s.browser().get("/assets/page-000000000000000000000000.js"); a.status != http.StatusNotFound {
		t.Errorf("a file of another version: got %d", a.status)
	}
}
