package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"ingestd/internal/failpoint"
	"ingestd/internal/fhir"
)

// LineSource is a file of an export as a stream of lines. Next returns io.EOF only where the file is complete.
type LineSource interface {
	Next() (Line, error)
	Close() error
}

// LoadOptions are what the loading of a file needs beside the file.
type LoadOptions struct {
	// Open requests the file from its beginning. Its context ends when the load does.
	Open func(ctx context.Context) (LineSource, error)
	// ChunkBytes is how many bytes of lines are staged at once; 4 MiB if 0. Two chunks are in memory: while one is
	// copied, the next is read. Of lines that are larger than a chunk, one is in memory, and the one that is being read.
	ChunkBytes int
	// RepairText puts U+FFFD where a line holds text that jsonb cannot, \u0000 or half a surrogate pair, instead of quarantining it.
	RepairText bool
	// Stop ends the load at the next checkpoint when it is closed.
	Stop <-chan struct{}
	// WireBytes says how many bytes were transferred since Open; may be nil.
	WireBytes func() int64
	// OnChunk is told of each committed chunk; may be nil.
	OnChunk func(Chunk)
}

// Chunk is what one committed chunk held.
type Chunk struct {
	Lines, Bytes, Staged, Unchanged, Quarantined int64
	Took                                         time.Duration // to copy and commit
}

var (
	// ErrStopped says that a load ended early, at a checkpoint, because it was told to.
	ErrStopped = errors.New("the load was stopped at a checkpoint")
	// ErrFileChanged says that a file no longer begins with the lines that were staged of it. What was staged is void
	// by then, so that the next load starts at its beginning.
	ErrFileChanged = errors.New("the file no longer begins with the lines that were loaded from it")
)

// CountMismatchError says that a file does not hold as many lines as the manifest promised (Bulk Data 3.0, output.count).
type CountMismatchError struct {
	Ordinal   int
	Want, Got int64
}

func (e *CountMismatchError) Error() string {
	return fmt.Sprintf("file %d holds %d lines, the manifest promised %d", e.Ordinal, e.Got, e.Want)
}

// ReadError wraps what the source of the lines failed with, to tell it from failures of Postgres.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read the file: " + e.Err.Error() }

// Unwrap returns the source's error.
func (e *ReadError) Unwrap() error { return e.Err }

// LoadFile stages a file of an export from its checkpoint on, under the lease on that file, and returns the file with its
// new checkpoint. Each chunk commits together with the checkpoint behind it, so whatever happens, a later call goes on
// where this one ended, and no chunk is staged twice. It does not mark the file as loaded: see FileLoadedTx.
//
// Errors: ErrStopped, ErrFileChanged, a *ReadError from the source, one that IsMismatch, or a failure of Postgres. After a
// mismatch and ErrFileChanged, what was staged of the file is void. A
// change that came too late (IsStale) means that the export is not loading any more.
func (s *Store) LoadFile(ctx context.Context, lease *Lease, e Export, f File, o LoadOptions) (File, error) {
	if o.ChunkBytes == 0 {
		o.ChunkBytes = 4 << 20
	}
	l := &loader{
		store: s, conn: lease.Conn(), export: e, file: f, options: o, baseWire: f.WireBytes,
		chunker: newChunker(f, e.OrganizedBy != "", o.RepairText), late: newChunker(f, e.OrganizedBy != "", o.RepairText),
		partitions: make(map[string]bool), staged: make(map[string]bool),
	}
	err := l.run(ctx)
	if mismatch := IsMismatch(err); mismatch || errors.Is(err, ErrFileChanged) {
		if resetErr := s.resetFile(ctx, lease.Conn(), f, mismatch); resetErr != nil {
			return l.file, resetErr
		}
	}
	return l.file, err
}

// MismatchError wraps the word of a source that what it gave was whole, and not what the manifest says.
type MismatchError struct{ Err error }

func (e *MismatchError) Error() string { return e.Err.Error() }

// Unwrap returns the source's error.
func (e *MismatchError) Unwrap() error { return e.Err }

// IsMismatch reports whether a file was whole, and not what the manifest says: by its lines, or by its source's word.
func IsMismatch(err error) bool {
	var lines *CountMismatchError
	var other *MismatchError
	return errors.As(err, &lines) || errors.As(err, &other)
}

// loader is one call of LoadFile. One goroutine reads and scans, the caller's copies; two chunks go round between them.
type loader struct {
	store    *Store
	conn     *pgx.Conn
	export   Export
	file     File
	options  LoadOptions
	chunker  *chunker
	late     *chunker // scans what the other left for later
	baseWire int64

	source     LineSource
	partitions map[string]bool // table → whether something is published to compare with
	staged     map[string]bool // tables whose staging table stands
	copyBuffer []byte
}

func (l *loader) run(ctx context.Context) error {
	if l.file.Kind == FileOutput && l.file.ResourceType != "" && l.export.OrganizedBy == "" {
		table, err := tableName(l.file.ResourceType)
		if err != nil {
			return err
		}
		if l.chunker.defers, err = l.store.hasPartition(ctx, l.conn, table, l.export.Payer); err != nil {
			return err
		}
	}
	readCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	source, err := l.options.Open(readCtx)
	if err != nil {
		return &ReadError{err}
	}
	defer func() { _ = source.Close() }() // what matters of its end, Next has reported
	l.source = source

	chunks, full := newChunkSet(l.options.ChunkBytes), make(chan *chunk)
	var stopped atomic.Bool
	var group errgroup.Group
	group.Go(func() error {
		defer close(full)
		return l.read(readCtx, chunks, full, &stopped)
	})
	var copyErr error
	group.Go(func() error {
		// A failed copy ends the download, which ends the reader. A failed download does not end the copy: what was
		// read of it is good.
		defer cancel()
		for c := range full {
			if copyErr = l.flush(ctx, c); copyErr != nil {
				return copyErr
			}
			chunks.free <- c
		}
		return nil
	})
	err = group.Wait()
	if copyErr != nil {
		return copyErr // whatever the reader failed with first, this ended its download
	}
	chunks.release()
	if err != nil {
		return err
	}
	if stopped.Load() {
		return ErrStopped
	}
	// Whether a count includes the headers of organized output, the guide leaves open (protocol.md MAN-7).
	if l.file.Kind == FileOutput && l.export.OrganizedBy == "" && l.file.ExpectedCount >= 0 && l.file.Lines != l.file.ExpectedCount {
		return &CountMismatchError{Ordinal: l.file.Ordinal, Want: l.file.ExpectedCount, Got: l.file.Lines}
	}
	return nil
}

// read fills chunks with the lines behind the checkpoint until the file ends.
func (l *loader) read(ctx context.Context, chunks *chunkSet, full chan<- *chunk, stopped *atomic.Bool) error {
	position, err := l.skip()
	if err != nil {
		return err
	}
	c, err := l.take(ctx, chunks, position, 0)
	if err != nil {
		return err
	}
	for {
		line, err := l.source.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// What was read before the failure is good: it is staged, and need not be read again.
			if sendErr := l.send(ctx, full, c); sendErr != nil {
				return sendErr
			}
			return &ReadError{err}
		}
		if c.full(len(line.Bytes), l.options.ChunkBytes) {
			if err := l.send(ctx, full, c); err != nil {
				return err
			}
			select {
			case <-l.options.Stop:
				stopped.Store(true)
				return nil
			default:
			}
			if c, err = l.take(ctx, chunks, position, len(line.Bytes)); err != nil {
				return err
			}
		}
		l.chunker.add(c, line)
		position = checkpoint{line.Number, line.End}
		c.lineNumber, c.bytes = position.lineNumber, position.bytes
	}
	return l.send(ctx, full, c)
}

// checkpoint is a position in a file behind a whole line.
type checkpoint struct{ lineNumber, bytes int64 }

// skip reads up to the checkpoint and proves that the file still begins with what is staged of it.
func (l *loader) skip() (checkpoint, error) {
	var position checkpoint
	for position.lineNumber < l.file.LineNumber {
		line, err := l.source.Next()
		if errors.Is(err, io.EOF) {
			return position, ErrFileChanged
		}
		if err != nil {
			return position, &ReadError{err}
		}
		l.chunker.digest(line)
		position = checkpoint{line.Number, line.End}
	}
	if l.file.LineNumber == 0 {
		return position, nil
	}
	if position != (checkpoint{l.file.LineNumber, l.file.Bytes}) || !bytes.Equal(l.chunker.prefix.Sum(nil), l.file.PrefixDigest) {
		return position, ErrFileChanged
	}
	return position, nil
}

// take returns an empty chunk, for a line of n bytes, that stands at a checkpoint.
func (l *loader) take(ctx context.Context, chunks *chunkSet, p checkpoint, n int) (*chunk, error) {
	c, err := chunks.next(ctx, n)
	if err != nil {
		return nil, err
	}
	c.lineNumber, c.bytes = p.lineNumber, p.bytes
	return c, nil
}

func (l *loader) send(ctx context.Context, full chan<- *chunk, c *chunk) error {
	c.prefixDigest = l.chunker.prefix.Sum(c.prefixDigest[:0])
	select {
	case full <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush stages a chunk and moves the checkpoint, in one transaction.
func (l *loader) flush(ctx context.Context, c *chunk) error {
	began := time.Now()
	file := l.file
	for _, rows := range groupRows(c.rows) {
		if err := l.prepareType(ctx, rows[0].resourceType); err != nil {
			return err
		}
	}
	if c.deletions > 0 && !l.staged[deletedName(l.export.ID)] {
		if err := l.store.ensureDeleted(ctx, l.conn, l.export); err != nil {
			return err
		}
		l.staged[deletedName(l.export.ID)] = true
	}
	err := inCheckpointTx(ctx, l.conn, func(tx pgx.Tx) error {
		if err := l.readLate(ctx, tx, c); err != nil {
			return err
		}
		for _, rows := range groupRows(c.rows) {
			unchanged, err := l.stageRows(ctx, tx, c, rows)
			if err != nil {
				return err
			}
			file.Unchanged += unchanged
		}
		if err := l.stageRest(ctx, tx, c); err != nil {
			return err
		}
		file.Staged += int64(len(c.rows)) - (file.Unchanged - l.file.Unchanged) - refused(c)
		file.LineNumber, file.Bytes = c.lineNumber, c.bytes
		file.Lines += c.lines
		file.Deletions += int64(c.deletions)
		file.Quarantined += int64(len(c.quarantined))
		file.Outcomes += c.outcomeLines
		file.Subsetted += c.subsetted
		file.Headers += c.headers
		file.Repaired += c.repaired
		file.PrefixDigest = append([]byte(nil), c.prefixDigest...)
		file.Chunks++
		if l.options.WireBytes != nil {
			file.WireBytes = l.baseWire + l.options.WireBytes()
		}
		err := l.moveCheckpoint(ctx, tx, file)
		failpoint.Here(failpoint.ChunkCommit)
		return err
	})
	if err != nil {
		return err
	}
	failpoint.Here(failpoint.ChunkCommitted)
	if l.options.OnChunk != nil {
		l.options.OnChunk(Chunk{
			Lines: c.lines, Bytes: file.Bytes - l.file.Bytes, Staged: file.Staged - l.file.Staged,
			Unchanged: file.Unchanged - l.file.Unchanged, Quarantined: int64(len(c.quarantined)), Took: time.Since(began),
		})
	}
	l.file = file
	return nil
}

// refused counts the rows of a chunk that Postgres refused: they stand among the rows and in the quarantine.
func refused(c *chunk) int64 {
	var n int64
	for i := range c.quarantined {
		if c.quarantined[i].reason == fhir.ReasonRefused {
			n++
		}
	}
	return n
}

// moveCheckpoint stores where the file stands now, provided that it stood where this load began the chunk and that the
// export is still loading, and has not started again meanwhile. Anything else means that somebody else is at work, and this
// chunk must not be committed.
func (l *loader) moveCheckpoint(ctx context.Context, tx pgx.Tx, f File) error {
	return change(ctx, tx, `
		UPDATE ingest.export_file
		SET line_number = $4, lines = $5, bytes = $6, wire_bytes = $7, prefix_digest = $8, staged = $9, unchanged = $10,
			deletions = $11, quarantined = $12, chunks = $13, outcomes = $14, subsetted = $16, headers = $17, repaired = $18, job_due_at = now()
		WHERE export_id = $1 AND ordinal = $2 AND line_number = $3 AND chunks = $13 - 1 AND state = 'queued'
			AND EXISTS (SELECT FROM ingest.export WHERE id = $1 AND state IN ('polling', 'loading') AND restarts = $15)`,
		f.ExportID, f.Ordinal, l.file.LineNumber, f.LineNumber, f.Lines, f.Bytes, f.WireBytes, f.PrefixDigest, f.Staged,
		f.Unchanged, f.Deletions, f.Quarantined, f.Chunks, f.Outcomes, l.export.Restarts, f.Subsetted, f.Headers, f.Repaired)
}

// groupRows splits rows by type, in place where they are all of one, which is the rule.
func groupRows(rows []row) [][]row {
	if len(rows) == 0 {
		return nil
	}
	same := true
	for i := range rows {
		if rows[i].resourceType != rows[0].resourceType {
			same = false
			break
		}
	}
	if same {
		return [][]row{rows}
	}
	index := make(map[string]int)
	var groups [][]row
	for _, r := range rows {
		i, ok := index[r.resourceType]
		if !ok {
			i = len(groups)
			index[r.resourceType] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// prepareType makes the staging tables of a type and finds out whether there is anything to compare with.
func (l *loader) prepareType(ctx context.Context, resourceType string) error {
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	if l.staged[table] {
		return nil
	}
	if err := l.store.ensureStage(ctx, l.conn, l.export, table); err != nil {
		return err
	}
	failpoint.Here(failpoint.StageCommitted)
	exists, err := l.store.hasPartition(ctx, l.conn, table, l.export.Payer)
	if err != nil {
		return err
	}
	l.staged[table], l.partitions[table] = true, exists
	return nil
}

// readLate looks up the rows that are not scanned yet, and scans those that do not stand published. They are all of the file's type, and
// so is what they become.
func (l *loader) readLate(ctx context.Context, tx pgx.Tx, c *chunk) error {
	var unread []*row
	for i := range c.rows {
		if c.rows[i].unread {
			unread = append(unread, &c.rows[i])
		}
	}
	if len(unread) == 0 {
		return nil
	}
	table, err := tableName(l.file.ResourceType)
	if err != nil {
		return err
	}
	if _, err := l.lookUp(ctx, tx, table, unread); err != nil {
		return err
	}
	l.late.scanUnread(c)
	return nil
}

// stageRows copies the rows of one type that differ from what is published, and returns the number of those that do not.
func (l *loader) stageRows(ctx context.Context, tx pgx.Tx, c *chunk, rows []row) (int64, error) {
	table, err := tableName(rows[0].resourceType)
	if err != nil {
		return 0, err
	}
	var unchanged int64
	var pending []*row
	for i := range rows {
		switch {
		case rows[i].unchanged:
			unchanged++
		case !rows[i].looked && l.partitions[table]:
			pending = append(pending, &rows[i])
		}
	}
	found, err := l.lookUp(ctx, tx, table, pending)
	if err != nil {
		return 0, err
	}
	if unchanged += found; unchanged == int64(len(rows)) {
		return unchanged, nil
	}
	err = copyRows(ctx, tx, stageName(l.export.ID, table), int32(l.file.Ordinal), rows, l.copyBuffer,
		func(r *row, sqlState string) {
			raw := r.resource
			if r.sent != nil {
				raw = r.sent
			}
			c.quarantined = append(c.quarantined, quarantined{
				line: r.line, offset: r.offset, reason: fhir.ReasonRefused, detail: "SQLSTATE " + sqlState,
				resourceType: r.resourceType, resourceID: clip(string(r.id), fhir.MaxIDBytes),
				raw:      append([]byte(nil), raw[:min(len(raw), maxQuarantinedBytes)]...),
				rawBytes: int64(len(raw)),
			})
		})
	return unchanged, err
}

// stageRest stages what a chunk holds beside resources.
func (l *loader) stageRest(ctx context.Context, tx pgx.Tx, c *chunk) error {
	if err := l.stageDeletions(ctx, tx, c); err != nil {
		return err
	}
	if len(c.outcomes) > 0 {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"ingest", "outcome"},
			[]string{"export_id", "file", "line", "severity", "code", "diagnostics"},
			pgx.CopyFromSlice(len(c.outcomes), func(i int) ([]any, error) {
				o := c.outcomes[i]
				return []any{
					l.export.ID, l.file.Ordinal, o.line, clip(o.issue.Severity, 64), clip(o.issue.Code, 64), clip(wordsOf(o.issue), 10_000),
				}, nil
			}))
		if err != nil {
			return fmt.Errorf("store outcomes: %w", err)
		}
	}
	if len(c.quarantined) > 0 {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"ingest", "quarantine"},
			[]string{
				"export_id", "payer", "file", "line", "byte_offset", "reason", "detail", "resource_type", "resource_id", "raw",
				"raw_bytes",
			},
			pgx.CopyFromSlice(len(c.quarantined), func(i int) ([]any, error) {
				q := &c.quarantined[i]
				return []any{
					l.export.ID, l.export.Payer, l.file.Ordinal, q.line, q.offset, string(q.reason), clip(q.detail, 1000),
					q.resourceType, q.resourceID, q.raw, q.rawBytes,
				}, nil
			}))
		if err != nil {
			return fmt.Errorf("quarantine lines: %w", err)
		}
	}
	return nil
}

// resetFile voids what was staged of a file, so that it is loaded from its beginning, and counts a mismatch.
func (s *Store) resetFile(ctx context.Context, conn *pgx.Conn, f File, mismatch bool) error {
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		err := change(ctx, tx, `
			UPDATE ingest.export_file
			SET line_number = 0, lines = 0, bytes = 0, prefix_digest = NULL, staged = 0, unchanged = 0, deletions = 0,
				quarantined = 0, outcomes = 0, subsetted = 0, headers = 0, repaired = 0, chunks = 0,
				mismatches = mismatches + $3::boolean::integer
			WHERE export_id = $1 AND ordinal = $2 AND state = 'queued'`, f.ExportID, f.Ordinal, mismatch)
		if err != nil {
			return err
		}
		names, err := stagingTables(ctx, tx, f.ExportID)
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := tx.Exec(ctx, `DELETE FROM `+quote(stageSchema, name)+` WHERE file = $1`, f.Ordinal); err != nil {
				return fmt.Errorf("void what was staged of a file: %w", err)
			}
		}
		for _, table := range []string{"quarantine", "outcome"} {
			_, err := tx.Exec(ctx, `DELETE FROM ingest.`+table+` WHERE export_id = $1 AND file = $2`, f.ExportID, f.Ordinal)
			if err != nil {
				return fmt.Errorf("void what was staged of a file: %w", err)
			}
		}
		return nil
	})
}
