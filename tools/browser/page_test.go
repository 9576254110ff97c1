package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestStatusPage drives the page as an operator does. The steps share one fleet, because starting it is most of the work.
func TestStatusPage(t *testing.T) {
	s := newSite(t)
	browser := chromium(t)
	steps := []struct {
		name string
		run  func(t *testing.T, s *site, open func(o options) *tab)
	}{
		{"a_visitor_is_led_to_the_sign_in_and_back", signsIn},
		{"pages_tell_what_the_payers_are_about", shows},
		{"the_filter_acts_while_one_types", filters},
		{"there_are_no_barriers", hasNoBarriers},
		{"the_page_follows_what_happens", follows},
		{"the_keyboard_reaches_all", worksByKeyboard},
		{"it_works_without_JavaScript", worksWithoutScript},
		{"a_forged_form_is_refused", refusesForgery},
		{"it_says_that_the_daemon_has_stopped", saysThatItStopped},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			step.run(t, s.of(t), func(o options) *tab { return s.of(t).open(t, browser, o) })
		})
		if t.Failed() {
			t.Fatalf("the steps build on each other; the daemon says:\n%.4000s", s.daemon.output())
		}
	}
}

// of is the same site for another test.
func (s *site) of(t *testing.T) *site {
	other := *s
	other.t = t
	return &other
}

func signsIn(t *testing.T, _ *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.visit("/payers/kestrel")
	if at := tb.path(); at != "/sign-in?next=%2Fpayers%2Fkestrel" {
		t.Errorf("a visitor is led to %s", at)
	}
	tb.do(chromedp.SendKeys(chromedp.CSS("#operator"), "dana.ops"), chromedp.SendKeys(chromedp.CSS("#token"), "a guess"))
	tb.expect("401") // the browser logs it
	tb.click("main button.primary")
	tb.says(".sign-in .note", "That is not the admin token.")
	tb.do(chromedp.SendKeys(chromedp.CSS("#token"), adminToken+kb.Enter))
	tb.says("h1", "kestrel")
	if at := tb.path(); at != "/payers/kestrel" {
		t.Errorf("after the sign-in, one is at %s", at)
	}
	if cookies := get(tb, chromedp.Evaluate[string]("document.cookie")); cookies != "" {
		t.Errorf("scripts see the cookie: %q", cookies)
	}
	tb.click(".who form button")
	tb.says("h1", "Sign in")
}

func shows(_ *testing.T, _ *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.signIn("dana.ops")
	for selector, want := range map[string]string{
		"#figure-failed": "1", "#figure-held": "1", "#figure-paused": "1", "#payers tbody:nth-of-type(1)": "ironwood",
		"#payer-ironwood": "forbidden", "#payer-juniper_life": "ghost_guard", "#payer-foothill": "the payer says 43% of the members",
		"#payer-lakeshore_hmo": "stale for", "#payer-northfield": "paused by", "#system": "1 of 1 instance alive",
	} {
		tb.says(selector, want)
	}
	tb.click("#payer-kestrel .run a")
	tb.says("#ledger + .balance", "Balances:")
	tb.says("#refreshed", "not_json")
	tb.click(".crumb a")
	tb.says("#refreshed", "ES384")
	tb.says("#refreshed", "https://ingest.example.org/.well-known/jwks.json")
	tb.visit("/configuration")
	tb.says(".yaml", "fhir_url")
	tb.visit("/audit")
	tb.says("main", "pause")
	tb.expect("404")
	tb.visit("/nowhere")
	tb.says("h1", "There is no page at this address.")
}

func filters(_ *testing.T, _ *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.signIn("dana.ops")
	tb.do(chromedp.KeyEvent("/"))
	tb.holds("/ leads to the filter", `document.activeElement.id === "q"`)
	tb.do(run(`document.activeElement.value = ""`), chromedp.KeyEvent("kest")) // the protocol types the / as well, which keyboards do not
	const shown = `[...document.querySelectorAll("#payers tbody")].filter(r => !r.hidden).map(r => r.dataset.name).join()`
	tb.holds("one payer is shown", shown+` === "kestrel"`)
	tb.holds("the address says so", `location.search === "?q=kest"`)
	tb.do(chromedp.KeyEvent(kb.Escape))
	tb.click("#figure-held")
	tb.holds("the held one is shown", shown+` === "juniper_life"`)
	tb.do(chromedp.Reload())
	tb.holds("the server filters, too", shown+` === "juniper_life"`)
	tb.click("#figure-held")
	tb.holds("all are shown", `document.querySelectorAll("#payers tbody[hidden]").length === 0`)
}

// axeReport is what axe-core finds.
type axeReport struct {
	Violations []struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	Passes int
}

func hasNoBarriers(t *testing.T, _ *site, open func(o options) *tab) {
	script, err := os.ReadFile(filepath.Join("..", "..", "build", "browser", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatalf("%v: scripts/browser installs it", err)
	}
	for _, o := range []options{{script: true}, {script: true, dark: true}, {script: true, dark: true, width: 390}, {script: true, width: 390}} {
		tb := open(o)
		tb.visit("/sign-in")
		look := func(at string) {
			t.Helper()
			if _, err := chromedp.Run(tb.ctx, chromedp.Evaluate[any](string(script)+";0")); err != nil {
				t.Fatal(err)
			}
			report := get(tb, chromedp.Evaluate[axeReport](`axe.run(document, {resultTypes: ["violations"]}).then(r => ({
				Violations: r.violations.map(v => ({ID: v.id, Impact: v.impact, Help: v.help,
					Nodes: v.nodes.map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))})), Passes: r.passes.length}))`, chromedp.EvalAwaitPromise))
			if report.Passes == 0 {
				t.Errorf("axe has looked at nothing of %s", at)
			}
			for _, v := range report.Violations {
				for _, node := range v.Nodes {
					t.Errorf("%s at %d px, dark %t: %s %s: %s\n%s\n%s", at, o.width, o.dark, v.Impact, v.ID, v.Help, node.HTML, node.FailureSummary)
				}
			}
		}
		look("/sign-in")
		tb.signIn("dana.ops")
		look("/")
		if (o.width == 390) != o.dark {
			continue // the other two see all pages
		}
		for _, path := range []string{"/payers/juniper_life", "/payers/kestrel", "/exports", "/audit", "/configuration", "/payers/kestrel/run-full"} {
			tb.visit(path)
			tb.do(run(`document.querySelectorAll("details").forEach(d => d.open = true)`))
			look(path)
			wide := get(tb, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`))
			if wide {
				t.Errorf("%s at %d px is wider than the screen", path, o.width)
			}
		}
		tb.visit("/?q=kestrel")
		tb.click("#payer-kestrel .run a")
		tb.says("h1", "Export")
		look("an export")
	}
}

func follows(t *testing.T, s *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.signIn("dana.ops")
	tb.says("#live-text", "live")
	other := open(options{script: true})
	other.signIn("lee")
	other.visit("/payers/sandstone")
	other.says("#live-text", "live")
	tb.do(run(`window.same = true`))

	// What another program does is seen here, without the page being loaded again.
	s.must("pause", "sandstone", "--server", s.url)
	tb.says("#payer-sandstone", "paused by")
	other.says("h1", "paused")

	// What is done here is seen there.
	tb.click("#payer-sandstone .acts button:last-child")
	tb.says("#said", "The payer's schedules go on.")
	tb.holds("the row follows", `document.querySelector("#payer-sandstone").textContent.includes("Pause")`)
	other.holds("so does the other", `!document.querySelector("h1").textContent.includes("paused")`)
	tb.click("#payer-atlas_mutual .acts button:first-child")
	tb.says("#said", "An export was enqueued.")
	s.wait("atlas_mutual", "idle")
	tb.expect("409")
	tb.holds("the page is the same", `window.same === true`)

	// A decision is asked for, and then made.
	tb.click("#payer-juniper_life .acts a:first-child")
	tb.says("h1", "as it is?")
	tb.click("main button.primary")
	tb.says("#said", "The export was released")
	tb.says("h1", "published")
	s.wait("juniper_life", "idle")
	out := s.must("audit", "list", "--server", s.url)
	if !strings.Contains(out, "dana.ops") || !strings.Contains(out, "release") {
		t.Errorf("the audit says:\n%s", out)
	}
}

func worksByKeyboard(t *testing.T, _ *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.signIn("dana.ops")
	tb.says("#live-text", "live")
	tb.do(run(`document.activeElement.blur(); window.scrollTo(0, 0)`), chromedp.KeyEvent(kb.Tab))
	tb.holds("the first stop leads past the navigation", `document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().top >= 0`)
	tb.do(chromedp.KeyEvent(kb.Enter))
	tb.holds("it does", `document.activeElement.id === "main" || location.hash === "#main"`)
	reached := map[string]bool{}
	for range 120 {
		tb.do(chromedp.KeyEvent(kb.Tab))
		stop := get(tb, chromedp.Evaluate[string](`(() => { const e = document.activeElement, s = getComputedStyle(e);
			return (e.getAttribute("aria-label") || e.textContent || e.id).trim() + "|" + (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2); })()`))
		name, seen, _ := strings.Cut(stop, "|")
		if seen != "true" && !strings.Contains(stop, "ingestd 1") && get(tb, chromedp.Evaluate[bool](`document.activeElement !== document.body`)) {
			t.Errorf("the focus on %q is not seen", name)
		}
		reached[name] = true
	}
	for _, want := range []string{"Run ironwood now", "Pause ironwood", "ironwood", "Cancel export"} {
		found := false
		for name := range reached {
			found = found || strings.HasPrefix(name, want)
		}
		if !found {
			t.Errorf("the keyboard does not reach %q", want)
		}
	}
	// The focus stays where it is while the row under it is exchanged.
	tb.do(chromedp.Focus(chromedp.CSS("#payer-prairie_coop .acts button:last-child")), chromedp.KeyEvent(" "))
	tb.says("#payer-prairie_coop", "paused by")
	tb.holds("the focus is in the row", `document.activeElement.closest("#payer-prairie_coop") !== null`)
}

func worksWithoutScript(t *testing.T, s *site, open func(o options) *tab) {
	tb := open(options{})
	tb.signIn("dana.ops")
	tb.visit("/?q=cedar")
	tb.click("#payer-cedar_mutual .acts button:last-child")
	tb.says("#said", "The payer's schedules rest now.")
	if at := tb.path(); at != "/?done=pause&q=cedar" {
		t.Errorf("after an act, one is at %s", at)
	}
	tb.click("#payer-cedar_mutual .acts button:last-child")
	tb.says("#said", "The payer's schedules go on.")
	tb.visit("/payers/foothill")
	tb.click(".title .acts a")
	tb.says("h1", "Cancel export")
	tb.click("main button.danger")
	tb.says("#said", "The export was canceled.")
	if is := s.state("foothill"); is != "canceled" {
		t.Errorf("foothill is %s", is)
	}
	tb.visit("/")
	tb.do(chromedp.SendKeys(chromedp.CSS("#q"), "harbor"+kb.Enter))
	tb.says("#matches", "hidden")
}

func refusesForgery(t *testing.T, s *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.signIn("dana.ops")
	// The page's own origin, with another token of the form; and what scripts in the page may not do.
	tb.expect("403")
	status := get(tb, chromedp.Evaluate[int](`fetch("/payers/tidewater/pause", {method: "POST", body: new URLSearchParams({csrf: "forged"})}).then(r => r.status)`,
		chromedp.EvalAwaitPromise))
	if status != 403 {
		t.Errorf("a forged token is answered %d", status)
	}
	tb.expect("Content Security Policy")
	refused := get(tb, chromedp.Evaluate[bool](`new Promise(done => {
		const script = document.createElement("script");
		script.textContent = "window.injected = true";
		document.body.append(script);
		setTimeout(() => done(window.injected !== true), 50);
	})`, chromedp.EvalAwaitPromise))
	if !refused {
		t.Error("a script that was put into the page runs")
	}
	// A page of another port sends a form: the cookie goes with it, the origin gives it away.
	tb.visit("/sign-in")
	evil := open(options{script: true})
	evil.expect("403")
	evil.signIn("dana.ops")
	evil.do(chromedp.Navigate(fmt.Sprintf("data:text/html,<form method=post action='%s/payers/tidewater/pause'><button>x</button></form>", s.url)))
	evil.expect("a request to elsewhere")
	evil.do(chromedp.Click(chromedp.CSS("button")))
	eventually(t, "the form is answered", func() bool { return strings.HasSuffix(evil.path(), "/payers/tidewater/pause") })
	evil.says("h1", "another origin")
	if out := s.must("status", "--server", s.url, "--output", "json"); strings.Contains(out, `"payer":"tidewater","state":"paused"`) {
		t.Errorf("it was paused: %s", out)
	}
}

func saysThatItStopped(t *testing.T, s *site, open func(o options) *tab) {
	tb := open(options{script: true})
	tb.signIn("dana.ops")
	tb.says("#live-text", "live")
	tb.expect("ERR_") // what is asked for meanwhile
	s.daemon.stop()
	if strings.Contains(s.daemon.output(), "panic") {
		t.Errorf("the daemon says %s", s.daemon.output())
	}
	tb.says("#live-text", "not connected")
}
