package browser

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "write pictures of the pages to this directory")

// TestScreenshots writes what pages look like, for people to judge; 'make screenshots' asks for it.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("only with -screenshots DIR")
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	browser := chromium(t)
	for _, width := range []int64{1280, 390} {
		for _, scheme := range []string{"light", "dark"} {
			tb := s.open(t, browser, options{width: width, dark: scheme == "dark", script: true})
			shoot := func(name string) {
				t.Helper()
				png := get(tb, chromedp.FullScreenshot(100))
				file := filepath.Join(*screenshots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
				if err := os.WriteFile(file, png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tb.visit("/sign-in")
			shoot("sign-in")
			tb.signIn("dana.ops")
			tb.says("#live-text", "live")
			shoot("overview")
			for _, payer := range []string{"kestrel", "juniper_life", "delta_care", "ironwood"} {
				tb.visit("/payers/" + payer)
				shoot("payer-" + payer)
				tb.click("#payer-exports tbody tr:first-child a")
				tb.says("h1", "Export")
				shoot("export-" + payer)
			}
			tb.visit("/configuration")
			shoot("configuration")
			tb.visit("/audit")
			shoot("audit")
			tb.visit("/exports")
			shoot("exports")
			tb.expect("404")
			tb.visit("/nowhere")
			shoot("missing")
		}
	}
}
