package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"ingestd/internal/ops"
)

// watchScreen is where a watched status is shown: drawn anew on a terminal, or a block for each change.
type watchScreen struct {
	out      io.Writer
	terminal bool
	json     bool
	shown    string // what the last block said that can change
}

func newWatchScreen(out io.Writer, asJSON bool) *watchScreen {
	s := &watchScreen{out: out, json: asJSON}
	if file, ok := out.(*os.File); ok && !asJSON {
		s.terminal = term.IsTerminal(int(file.Fd()))
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
		text = "\x1b[H" + strings.ReplaceAll(head+"\n\n"+text, "\n", "\x1b[K\n") + "\x1b[J"
	} else {
		text = "--- " + head + "\n" + text
	}
	if _, err := io.WriteString(s.out, text); err != nil {
		return errors.Join(errors.New("print the status"), err)
	}
	return nil
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
