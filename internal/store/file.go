package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// FileKind says what the lines of a file are.
type FileKind string

// The kinds of file that a manifest lists.
const (
	FileOutput  FileKind = "output"  // resources
	FileDeleted FileKind = "deleted" // Bundles of deletions
	FileError   FileKind = "error"   // OperationOutcomes
)

// File is one row of ingest.export_file: a file of a manifest and the checkpoint up to which it is staged.
type File struct {
	ExportID      int64
	Ordinal       int
	Place         string // in the manifest: its page and the position in a list
	Kind          FileKind
	ResourceType  string // as the manifest says; empty where it does not
	URL           string // may carry a signature: never printed
	RequiresToken bool
	ExpectedCount int64  // of lines, by the manifest; -1 where it says none
	ExpectedBytes int64  // decompressed, by the manifest; -1 where it says none
	SHA256        string // of the decompressed file, by the manifest, in hex; empty where it says none
	Protection    string // a scheme that the manifest names and that is not known
	State         string

	// The checkpoint.
	LineNumber   int64 // number of the last staged line, counting from 1 and with blank lines
	Lines        int64 // without blank lines
	Bytes        int64 // decompressed
	WireBytes    int64 // as transferred, over all downloads
	PrefixDigest []byte
	Staged       int64
	Unchanged    int64
	Deletions    int64
	Quarantined  int64
	Outcomes     int64 // lines that were OperationOutcomes
	Subsetted    int64 // lines that are tagged SUBSETTED; not those that stand published as they are
	Repaired     int64 // lines that were mended: U+FFFD stands for what jsonb cannot hold; not those that stand published so
	Headers      int64 // lines that open a block of organized output
	Chunks       int
	Downloads    int
	Mismatches   int  // downloads that were whole, and not what the manifest says
	Unproven     bool // nothing said that the file was whole but the end of the connection (protocol.md FILE-6)
}

const fileColumns = `
	export_id, ordinal, place, kind, resource_type, url, requires_token, coalesce(expected_count, -1), coalesce(expected_bytes, -1), sha256, protection, state,
	line_number, lines, bytes, wire_bytes, prefix_digest, staged, unchanged, deletions, quarantined, outcomes, subsetted, repaired, headers, chunks,
	downloads, mismatches, unproven`

func scanFile(row pgx.CollectableRow) (File, error) {
	var f File
	err := row.Scan(&f.ExportID, &f.Ordinal, &f.Place, &f.Kind, &f.ResourceType, &f.URL, &f.RequiresToken, &f.ExpectedCount, &f.ExpectedBytes, &f.SHA256,
		&f.Protection, &f.State,
		&f.LineNumber, &f.Lines, &f.Bytes, &f.WireBytes, &f.PrefixDigest, &f.Staged, &f.Unchanged, &f.Deletions,
		&f.Quarantined, &f.Outcomes, &f.Subsetted, &f.Repaired, &f.Headers, &f.Chunks, &f.Downloads, &f.Mismatches, &f.Unproven)
	return f, err
}

// File returns one file of an export.
func (s *Store) File(ctx context.Context, exportID int64, ordinal int) (File, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+fileColumns+` FROM ingest.export_file WHERE export_id = $1 AND ordinal = $2`,
		exportID, ordinal)
	if err != nil {
		return File{}, fmt.Errorf("read a file: %w", err)
	}
	f, err := pgx.CollectExactlyOneRow(rows, scanFile)
	if errors.Is(err, pgx.ErrNoRows) {
		return File{}, errStale // the export started again, and its files with it
	}
	if err != nil {
		return File{}, fmt.Errorf("read a file: %w", err)
	}
	return f, nil
}

// Files returns all files of an export in the manifest's order.
func (s *Store) Files(ctx context.Context, exportID int64) ([]File, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+fileColumns+` FROM ingest.export_file WHERE export_id = $1 ORDER BY ordinal`, exportID)
	if err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	files, err := pgx.CollectRows(rows, scanFile)
	if err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	return files, nil
}

// NoteDownload counts a request for a file, before it is made, and puts off the reaper.
func (s *Store) NoteDownload(ctx context.Context, exportID int64, ordinal int) error {
	return change(ctx, s.pool, `UPDATE ingest.export_file SET downloads = downloads + 1, job_due_at = now()
		WHERE export_id = $1 AND ordinal = $2 AND state = 'queued'`, exportID, ordinal)
}

// NoteFileDue stores in how long the job of a file will go on, after a failure or a pause.
func (s *Store) NoteFileDue(ctx context.Context, exportID int64, ordinal int, wait time.Duration) error {
	return change(ctx, s.pool, `UPDATE ingest.export_file SET job_due_at = now() + $3::interval
		WHERE export_id = $1 AND ordinal = $2 AND state = 'queued'`, exportID, ordinal, wait)
}

// Next is what follows when a file is loaded.
type Next struct {
	// File is the ordinal of the next file to load, -1 where none waits.
	File int
	// Publish is set once, by the file that was the last.
	Publish bool
}

// FileLoadedTx marks a file as loaded and says what follows: the next file, or the publish of the whole export, whose
// state then turns from loading to publishing. loaded is the export as it was when the load began: where it has started
// again since, the file is another one. unproven notes that nothing said that the file was whole but the end of its connection.
//
// The file is the one that LoadFile returned. The lock under which it was loaded may be gone by now: somebody else may have voided
// what was staged, and a Postgres that crashed or was replaced may have lost the last chunks. So it is marked only where its checkpoint is
// still the one behind its last line; otherwise the error IsStale, and the file is loaded from where it stands.
func (s *Store) FileLoadedTx(ctx context.Context, tx pgx.Tx, loaded Export, file File, unproven bool) (Next, error) {
	next, exportID := Next{File: -1}, loaded.ID
	// The export's row is locked, so that of two last files exactly one sees the other as loaded.
	e, err := lockRow(ctx, tx, exportID)
	if err != nil {
		return next, err
	}
	if !e.State.loads() || e.Restarts != loaded.Restarts {
		return next, errStale
	}
	err = change(ctx, tx, `UPDATE ingest.export_file SET state = 'loaded', loaded_at = now(), job_due_at = NULL, unproven = $3
		WHERE export_id = $1 AND ordinal = $2 AND state = 'queued'
			AND (line_number, lines, bytes, chunks, prefix_digest) IS NOT DISTINCT FROM ($4::bigint, $5::bigint, $6::bigint, $7::integer, $8::bytea)`,
		exportID, file.Ordinal, unproven, file.LineNumber, file.Lines, file.Bytes, file.Chunks, file.PrefixDigest)
	if err != nil {
		return next, err
	}
	ordinal, ok, err := nextFile(ctx, tx, exportID)
	if err != nil {
		return next, err
	}
	if ok {
		next.File = ordinal
		return next, nil
	}
	if e.State == StatePolling {
		return next, nil // more pages of the manifest are to come
	}
	left, err := filesLeft(ctx, tx, exportID)
	if err != nil || left {
		return next, err
	}
	next.Publish = true
	return next, change(ctx, tx, `UPDATE ingest.export SET state = 'publishing', loaded_at = now(), job_due_at = now(), trouble_at = NULL
		WHERE id = $1 AND state = 'loading'`, exportID)
}
