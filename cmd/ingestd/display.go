package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"ingestd/internal/store"
)

// display shows the progress of exports: a bar each on a terminal, and otherwise a line now and then. It is a writer for
// log lines, which appear above the bars.
type display struct {
	out      io.Writer
	terminal bool

	mu    sync.Mutex
	bars  *mpb.Progress // nil where out is no terminal, or nothing is shown yet
	shown map[int64]*shownExport
}

// shownExport is what is on the screen of one export.
type shownExport struct {
	bar     *mpb.Bar
	text    atomic.Pointer[string] // read by the bar's own goroutine
	printed time.Time
}

// lineInterval is how often a line is printed where there is no terminal, unless the phase changes.
const lineInterval = 2 * time.Second

func newDisplay(out io.Writer) *display {
	d := &display{out: out, shown: make(map[int64]*shownExport)}
	if file, ok := out.(*os.File); ok {
		d.terminal = term.IsTerminal(int(file.Fd()))
	}
	return d
}

// Write implements io.Writer.
func (d *display) Write(p []byte) (int, error) {
	d.mu.Lock()
	bars := d.bars
	d.mu.Unlock()
	if bars != nil {
		return bars.Write(p)
	}
	return d.out.Write(p)
}

func (d *display) note(format string, args ...any) {
	fmt.Fprintf(d, format+"\n", args...)
}

// show brings the progress of an export up to date.
func (d *display) show(payer string, id int64, p store.Progress) {
	text := describeProgress(p)
	d.mu.Lock()
	shown, ok := d.shown[id]
	if !ok {
		shown = &shownExport{}
		shown.text.Store(new(string))
		if d.terminal {
			shown.bar = d.addBar(payer, shown)
		}
		d.shown[id] = shown
	}
	d.mu.Unlock()
	before := *shown.text.Swap(&text)
	if shown.bar == nil {
		if text != before && (phase(text) != phase(before) || time.Since(shown.printed) >= lineInterval) {
			d.note("%s: export %d: %s", payer, id, text)
			shown.printed = time.Now()
		} else {
			shown.text.Store(&before) // what was printed last
		}
		return
	}
	current, total := p.Lines, p.Expected
	if total == 0 {
		current, total = int64(p.FilesLoaded), int64(p.Files)
	}
	if !p.State.Active() || p.State == store.StateHeld {
		shown.bar.SetTotal(-1, true)
		return
	}
	shown.bar.SetTotal(max(total, current)+1, false) // it is full only when the export is over
	shown.bar.SetCurrent(current)
}

func (d *display) addBar(payer string, shown *shownExport) *mpb.Bar {
	if d.bars == nil {
		d.bars = mpb.New(mpb.WithOutput(d.out), mpb.WithWidth(40), mpb.WithAutoRefresh())
	}
	return d.bars.AddBar(0, // the total comes later; a bar with one would end when it is reached
		mpb.PrependDecorators(decor.Name(payer, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *shown.text.Load() })))
}

// close leaves the bars as they are and gives the terminal back. What is shown later gets new ones.
func (d *display) close() {
	d.mu.Lock()
	bars, shown := d.bars, d.shown
	d.bars, d.shown = nil, make(map[int64]*shownExport)
	d.mu.Unlock()
	if bars == nil {
		return
	}
	for _, export := range shown {
		export.bar.Abort(false)
	}
	bars.Wait()
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
	case store.StateStarting:
		if p.Waiting {
			return "waiting: as many exports run as fleet.max_exports lets"
		}
	case store.StatePublishing, store.StateHeld, store.StatePublished, store.StateFailed, store.StateCanceled:
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
