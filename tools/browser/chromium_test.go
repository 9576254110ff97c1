package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium starts a browser with a profile of its own.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed: scripts/browser installs it, where this is root on Debian")
	}
	profile, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Headless,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", false),
		chromedp.WSURLReadTimeout(patience))...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	t.Cleanup(func() {
		closeBrowser()
		stop()
		_ = os.RemoveAll(profile)
	})
	return browser
}

// tab is a page that is open, and what the browser complained about in it.
type tab struct {
	t    *testing.T
	ctx  context.Context
	site *site

	mu         sync.Mutex
	complaints []string
	expected   []string
}

// options are how a tab is opened.
type options struct {
	width  int64
	dark   bool
	script bool // JavaScript runs
}

// open opens a tab with cookies of its own.
func (s *site) open(t *testing.T, browser context.Context, o options) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	tb := &tab{t: t, ctx: ctx, site: s}
	t.Cleanup(func() {
		tb.calm()
		cancel()
		closeTab()
	})
	if err := chromedp.Listen(ctx, tb.listen); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if o.dark {
		scheme = "dark"
	}
	if o.width == 0 {
		o.width = 1280
	}
	command(tb, network.Enable, network.EnableParams{})
	command(tb, cdplog.Enable, cdp.Empty{})
	command(tb, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: o.width, Height: 900, DeviceScaleFactor: 1, Mobile: o.width < 500,
	})
	command(tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	command(tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !o.script})
	return tb
}

// command sends a command of the browser's protocol.
func command[P, R any](tb *tab, c cdp.Command[P, R], params P) R {
	tb.t.Helper()
	result, err := chromedp.Call(tb.ctx, c, params)
	if err != nil {
		tb.t.Fatal(err)
	}
	return result
}

// get runs an action that returns something.
func get[T any](tb *tab, action chromedp.Action[T]) T {
	tb.t.Helper()
	result, err := chromedp.Run(tb.ctx, action)
	if err != nil {
		tb.explain(err)
	}
	return result
}

// listen gathers what the console, the log and the network complain about.
func (tb *tab) listen(event any) {
	complain := func(text string) {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		tb.complaints = append(tb.complaints, text)
	}
	switch event := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning || event.Type == runtime.ConsoleAPICalledTypeAssert {
			var parts []string
			for _, arg := range event.Args {
				parts = append(parts, string(arg.Value)+arg.Description)
			}
			complain("console: " + strings.Join(parts, " "))
		}
	case *runtime.EventExceptionThrown:
		complain("exception: " + event.ExceptionDetails.Text + " " + event.ExceptionDetails.URL)
	case *cdplog.EventEntryAdded:
		if event.Entry.Level == cdplog.EntryLevelError || event.Entry.Level == cdplog.EntryLevelWarning {
			complain("log: " + string(event.Entry.Source) + ": " + event.Entry.Text + " " + event.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		complain("dialog: " + event.Message)
	case *network.EventRequestWillBeSent:
		if url := event.Request.URL; !strings.HasPrefix(url, tb.site.url) && !strings.HasPrefix(url, "about:") && !strings.HasPrefix(url, "data:") &&
			strings.HasPrefix(event.DocumentURL, tb.site.url) {
			complain("a request to elsewhere: " + url)
		}
	}
}

// expect lets a complaint pass that a test provokes.
func (tb *tab) expect(text string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.expected = append(tb.expected, text)
}

// calm fails the test where the browser complained: of the content security policy, of errors in scripts, of what was not found.
func (tb *tab) calm() {
	tb.t.Helper()
	tb.mu.Lock()
	defer tb.mu.Unlock()
complaints:
	for _, complaint := range tb.complaints {
		for _, expected := range tb.expected {
			if strings.Contains(complaint, expected) {
				continue complaints
			}
		}
		tb.t.Errorf("the browser complains: %s", complaint)
	}
	tb.complaints = nil
}

func (tb *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	if err := chromedp.Do(tb.ctx, actions...); err != nil {
		tb.explain(err)
	}
}

// explain ends the test with what the page shows.
func (tb *tab) explain(err error) {
	tb.t.Helper()
	short, cancel := context.WithTimeout(tb.ctx, 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(short, chromedp.Text(chromedp.CSS("body")))
	tb.t.Fatalf("%v, on the page:\n%.2000s", err, text)
}

// visit opens a page of the site.
func (tb *tab) visit(path string) {
	tb.t.Helper()
	tb.do(chromedp.Navigate(tb.site.url + path))
}

// click waits for an element and clicks it.
func (tb *tab) click(selector string) {
	tb.t.Helper()
	tb.eventually(func() string { return selector + " is clicked" }, func() bool { // what is there may be exchanged before the click arrives
		ctx, cancel := context.WithTimeout(tb.ctx, 10*time.Second)
		defer cancel()
		return chromedp.Do(ctx, chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)) == nil
	})
}

// text is what an element says.
func (tb *tab) text(selector string) string {
	tb.t.Helper()
	return get(tb, chromedp.Text(chromedp.CSS(selector)))
}

// path is where the tab is.
func (tb *tab) path() string {
	tb.t.Helper()
	return strings.TrimPrefix(get(tb, chromedp.Location()), tb.site.url)
}

// says waits until an element says something.
func (tb *tab) says(selector, want string) {
	tb.t.Helper()
	var last string
	tb.eventually(func() string { return selector + " says " + want + ", and not " + last }, func() bool {
		ctx, cancel := context.WithTimeout(tb.ctx, 10*time.Second)
		defer cancel()
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
		last = text
		return err == nil && strings.Contains(text, want)
	})
}

// eventually waits until something is so in the page.
func (tb *tab) eventually(what func() string, is func() bool) {
	tb.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.explain(fmt.Errorf("not within %s: %s", patience, what()))
		}
	}
}

// holds waits until a script returns true.
func (tb *tab) holds(what, script string) {
	tb.t.Helper()
	tb.eventually(func() string { return what }, func() bool {
		is, err := chromedp.Run(tb.ctx, chromedp.Evaluate[bool](script))
		return err == nil && is
	})
}

// signIn signs in through the form.
func (tb *tab) signIn(name string) {
	tb.t.Helper()
	tb.visit("/sign-in")
	tb.do(chromedp.SendKeys(chromedp.CSS("#operator"), name), chromedp.SendKeys(chromedp.CSS("#token"), adminToken))
	tb.click("main button.primary")
	tb.says(".operator", name)
}

// run runs a script in the page for what it does.
func run(script string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[bool]("(() => {"+script+"; return true})()")(ctx, t)
		return chromedp.Void{}, err
	}
}
