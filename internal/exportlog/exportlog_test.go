package exportlog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestLog_writes_a_line_an_event_for_the_eyes_of_its_user(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	var l Log
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() { l.Write(dir, "acme", 7, StatusProgress, Detail{"xProgress": strings.Repeat("x", n*100)}) })
	}
	group.Wait()
	path := filepath.Join(dir, "acme-7.ndjson")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v (%v), want a file of mode 0600", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 20 {
		t.Errorf("got %d lines, want 20", len(lines))
	}
	for _, line := range lines {
		var e struct {
			ExportID, Timestamp, EventID string
			EventDetail                  map[string]any
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ExportID != "acme-7" || e.EventID != "status_progress" {
			t.Errorf("got %v: %s", err, line)
		}
		if _, err := time.Parse(time.RFC3339Nano, e.Timestamp); err != nil {
			t.Errorf("timestamp: %v", err)
		}
	}
}

func TestLog_that_cannot_be_written_is_told_once(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	l := Log{Logger: slog.New(slog.NewTextHandler(&text, nil))}
	for range 3 {
		l.Write(filepath.Join(file, "below-a-file"), "acme", 1, KickOff, nil)
	}
	if got := strings.Count(text.String(), "cannot be written"); got != 1 {
		t.Errorf("told %d times, want once: %s", got, text.String())
	}
	(*Log)(nil).Write("dir", "acme", 1, KickOff, nil) // writes nothing
}

func TestAddress_shows_no_signature(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://files.example/a/b.ndjson?X-Amz-Signature=secret#x": "https://files.example/a/b.ndjson",
		"https://user:password@files.example/a":                     "https://files.example/a",
		"://":                                                       "",
	} {
		if got := Address(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestLog_does_not_follow_a_link_or_wait_for_a_pipe_that_lies_in_wait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(t.TempDir(), "of-another-service")
	if err := os.WriteFile(other, []byte("theirs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, "acme-1.ndjson")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "acme-2.ndjson"), 0o600); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	written := make(chan struct{})
	go func() {
		defer close(written)
		for id := range int64(2) {
			l := Log{Logger: slog.New(slog.NewTextHandler(&text, nil))}
			l.Write(dir, "acme", id+1, KickOff, nil)
		}
	}()
	select {
	case <-written:
	case <-time.After(time.Minute):
		t.Fatal("it waits for somebody to read the pipe")
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != "theirs\n" {
		t.Errorf("the file behind the link holds %q, %v", got, err)
	}
	if n := strings.Count(text.String(), "cannot be written"); n != 2 {
		t.Errorf("told %d times, want twice: %s", n, text.String())
	}
}
