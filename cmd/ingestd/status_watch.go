package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"ingestd/internal/ops"
)

// watchScreen is where a watched status is shown: drawn anew on a terminal, or a block for each change.
type watchScreen struct {
	out      io.Writer
	terminal bool
	size     func() (width, height int) // of the terminal
	json     bool
	shown    string // what the last block said that can change
}

func newWatchScreen(out io.Writer, asJSON bool) *watchScreen {
	s := &watchScreen{out: out, json: asJSON}
	if file, ok := out.(*os.File); ok && !asJSON {
		s.terminal = term.IsTerminal(int(file.Fd()))
		s.size = func() (width, height int) {
			width, height, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 0, 0
			}
			return width, height
		}
	}
	return s
}

// watchStatus shows the status until ctx ends. A look that fails is told, and the next is waited for: who watches an outage wants to see
// its end. The first must succeed.
func watchStatus(ctx context.Context, c control, screen *watchScreen, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for first := true; ; first = false {
		status, err := c.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how a watch ends
		case err != nil && first:
			return err
		case err != nil:
			err = screen.trouble(err)
		default:
			err = screen.show(status, time.Now())
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// show shows the status, on a terminal always, and elsewhere where it differs in more than ages and counts.
func (s *watchScreen) show(status []ops.PayerStatus, now time.Time) error {
	key := watchKey(status)
	if !s.terminal && key == s.shown {
		return nil
	}
	s.shown = key
	if s.json {
		return printJSONLine(s.out, status)
	}
	var b strings.Builder
	if err := printStatus(&b, status, now); err != nil {
		return err
	}
	return s.block(now, b.String())
}

// trouble tells why there is no status now.
func (s *watchScreen) trouble(err error) error {
	key := "trouble: " + err.Error()
	if s.json || !s.terminal && key == s.shown {
		return nil
	}
	s.shown = key
	return s.block(time.Now(), printable(err.Error())+"\n")
}

func (s *watchScreen) block(now time.Time, text string) error {
	head := now.UTC().Format(time.RFC3339)
	if s.terminal {
		// Home, each line to its end, and what is left below: drawn over in one write, it does not flicker.
		width, height := s.size()
		text = "\x1b[H" + strings.ReplaceAll(fitScreen(head+"\n\n"+text, width, height), "\n", "\x1b[K\n") + "\x1b[J"
	} else {
		text = "--- " + head + "\n" + text
	}
	if _, err := io.WriteString(s.out, text); err != nil {
		return errors.Join(errors.New("print the status"), err)
	}
	return nil
}

// fitScreen cuts lines that a terminal of this size has no rows for, and says so: it would scroll, so that each drawing began in the
// middle of the last one. A long line takes several rows. A size that is not known cuts nothing.
func fitScreen(text string, width, height int) string {
	if width <= 0 || height <= 0 {
		return text
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	rows := func(line string) int {
		return max(1, (utf8.RuneCountInString(strings.TrimSuffix(line, "\n"))+width-1)/width)
	}
	free, total := height-1, 0 // behind the last line, the cursor stands on a row of its own
	for _, line := range lines {
		total += rows(line)
	}
	if total <= free {
		return text
	}
	var b strings.Builder
	for i, line := range lines {
		if free -= rows(line); free < 1 {
			fmt.Fprintf(&b, "%.*s\n", width, fmt.Sprintf("… %s more: a taller terminal shows them", count(len(lines)-i, "line")))
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// watchKey is what of a status is news.
func watchKey(status []ops.PayerStatus) string {
	var b strings.Builder
	for _, s := range status {
		fmt.Fprintf(&b, "%q %s %v %v", s.Payer, s.State, s.PausedAt != nil, s.StalledSince != nil)
		if s.LastExport != nil {
			fmt.Fprintf(&b, " %d", s.LastExport.ExportID)
		}
		if s.LastError != nil {
			fmt.Fprintf(&b, " %d %s %q", s.LastError.ExportID, s.LastError.Code, s.LastError.Message)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
