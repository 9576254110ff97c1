package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
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
