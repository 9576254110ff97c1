package main

import (
	"io"
	"log"
	"log/slog"
	"strings"

	"ingestd/internal/fhir"
)

// maxLibraryText bounds what is logged of a line of a library.
const maxLibraryText = 200

// libraryLog takes what libraries write to the standard logger, and logs it up to where it quotes something. net/http writes what
// a server sends on a connection of which nothing was asked: where a Content-Length is too short, that is the rest of a resource.
type libraryLog struct{ logger *slog.Logger }

// Write implements io.Writer.
func (l libraryLog) Write(p []byte) (int, error) {
	text, _, _ := strings.Cut(string(p), `"`)
	l.logger.Warn("a library reports: what it quotes is left out", "text", fhir.Printable(text, maxLibraryText))
	return len(p), nil
}

// logLibraries has the standard logger write to a logger of ours.
func logLibraries(logger *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(libraryLog{logger})
}

// logLibrariesTo is logLibraries for commands that have no log.
func logLibrariesTo(w io.Writer) { logLibraries(slog.New(slog.NewTextHandler(w, nil))) }
