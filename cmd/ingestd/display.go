package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"ingestd/internal/store"
)

// display shows the progress of exports: a bar each on a terminal, and otherwise a line now and then. It is a writer for
// log lines, which appear above the bars.
type display struct {
	out  io.Writer
	bars *mpb.Progress // nil where out is no terminal

	mu    sync.Mutex
	shown map[int64]*shownExport
}

// shownExport is what is on the screen of one export.
type shownExport struct {
	bar     *mpb.Bar
	text    string
	printed time.Time
}

// lineInterval is how often a line is printed where there is no terminal, unless the phase changes.
const lineInterval = 2 * time.Second

func newDisplay(out io.Writer) *display {
	d := &display{out: out, shown: make(map[int64]*shownExport)}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		d.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(100), mpb.WithAutoRefresh())
	}
	return d
}

// Write implements io.Writer.
func (d *display) Write(p []byte) (int, error) {
	if d.bars != nil {
		return d.bars.Write(p)
	}
	return d.out.Write(p)
}

func (d *display) note(format string, args ...any) {
	fmt.Fprintf(d, format+"\n", args...)
}

// show brings the progress of an export up to date.
func (d *display) show(payer string, id int64, p store.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	shown, ok := d.shown[id]
	if !ok {
		shown = &shownExport{}
		if d.bars != nil {
			shown.bar = d.addBar(payer, shown)
		}
		d.shown[id] = shown
	}
	text := describeProgress(p)
	if shown.bar == nil {
		if text != shown.text && (phase(text) != phase(shown.text) || time.Since(shown.printed) >= lineInterval) {
			d.note("%s: export %d: %s", payer, id, text)
			shown.text, shown.printed = text, time.Now()
		}
		return
	}
	shown.text = text
	current, total := p.Lines, p.Expected
	if total == 0 {
		current, total = int64(p.FilesLoaded), int64(max(p.Files, 1))
	}
	shown.bar.SetTotal(total, false)
	shown.bar.SetCurrent(current)
	if !p.State.Active() || p.State == store.StateHeld {
		shown.bar.SetTotal(-1, true)
	}
}

func (d *display) addBar(payer string, shown *shownExport) *mpb.Bar {
	return d.bars.AddBar(1,
		mpb.PrependDecorators(decor.Name(payer, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			d.mu.Lock()
			defer d.mu.Unlock()
			return shown.text
		})))
}

// close leaves the bars as they are and gives the terminal back.
func (d *display) close() {
	if d.bars == nil {
		return
	}
	d.mu.Lock()
	for _, shown := range d.shown {
		shown.bar.Abort(false)
	}
	d.mu.Unlock()
	d.bars.Wait()
}

// describeProgress says in one line how far an export is; its first word is the phase.
func describeProgress(p store.Progress) string {
	switch p.State {
	case store.StatePolling:
		if p.PayerProgress != "" {
			return "polling: the payer says " + printable(p.PayerProgress)
		}
		return "polling: the payer is at work"
	case store.StateLoading:
		text := fmt.Sprintf("loading: file %d of %d, %d lines, %s", min(p.FilesLoaded+1, p.Files), p.Files, p.Lines, byteCount(p.Bytes))
		if p.Unchanged > 0 {
			text += fmt.Sprintf(", %d unchanged", p.Unchanged)
		}
		if p.Quarantined > 0 {
			text += fmt.Sprintf(", %d quarantined", p.Quarantined)
		}
		return text
	case store.StateStarting, store.StatePublishing, store.StateHeld, store.StatePublished, store.StateFailed, store.StateCanceled:
	}
	return string(p.State)
}

func phase(text string) string {
	for i := range len(text) {
		if text[i] == ':' {
			return text[:i]
		}
	}
	return text
}
