// Package exportlog writes the log of an export in the form that the SMART Bulk Data client defined ("Bulk Data Export Log
// Items"), and that payers' support desks read: one JSON event a line. It is for escalations: what was asked, what the
// payer answered, and when.
//
// The log holds no token, no query of a URL, and none of the payer's own words, which may name patients, but X-Progress: errors are those
// that ingestd logs.
package exportlog

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The ids of the events.
const (
	KickOff          = "kickoff"
	StatusProgress   = "status_progress"
	StatusComplete   = "status_complete"
	StatusError      = "status_error"
	ManifestComplete = "manifest_complete"
	DownloadRequest  = "download_request"
	DownloadComplete = "download_complete"
	DownloadError    = "download_error"
	ExportComplete   = "export_complete"
)

// Detail is the eventDetail of an event: members by the names that the format gives them.
type Detail map[string]any

// Log writes the logs of exports. The zero value is ready for use, and so is nil, which writes nothing. A log that cannot be
// written fails no export: it is told once for each directory.
type Log struct {
	Logger *slog.Logger

	mu   sync.Mutex
	told map[string]bool
}

// event is a line.
type event struct {
	ExportID  string `json:"exportId"`
	Timestamp string `json:"timestamp"`
	EventID   string `json:"eventId"`
	Detail    Detail `json:"eventDetail"`
}

// Write appends an event to the log of an export in dir; an empty dir writes nothing. The log is one file an export, which its
// payer's name and its number name, for the eyes of this user only. Events of several instances stand in one file where they
// share the directory: each is written at once.
func (l *Log) Write(dir, payer string, exportID int64, eventID string, detail Detail) {
	if l == nil || dir == "" {
		return
	}
	name := payer + "-" + strconv.FormatInt(exportID, 10)
	err := write(filepath.Join(dir, name+".ndjson"), event{
		ExportID: name, Timestamp: time.Now().Format(time.RFC3339Nano), EventID: eventID, Detail: detail,
	})
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[dir] || l.Logger == nil {
		return
	}
	if l.told == nil {
		l.told = make(map[string]bool)
	}
	l.told[dir] = true
	l.Logger.Warn("the export log cannot be written; exports go on without it", "payer", payer, "error", err)
}

func write(path string, e event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of the export log: %w", err)
	}
	// What lies in wait in a directory of others is not written to: a link, or a pipe, whose reader would be waited for.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("open the export log: %w", err)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		return fmt.Errorf("open the export log: %s is no regular file", path)
	}
	_, err = file.Write(append(line, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write the export log: %w", err)
	}
	return nil
}

// Address is a URL as the log may show it: without its query, which may be a signature, and without user information.
func Address(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.RawQuery, u.Fragment, u.User = "", "", nil
	return u.String()
}
