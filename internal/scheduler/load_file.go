package scheduler

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ingestd/internal/export"
	"ingestd/internal/store"
)

// loadFileArgs ask for one file of an export.
type loadFileArgs struct {
	ExportID int64 `json:"export_id"`
	File     int   `json:"file"`
}

// Kind implements river.JobArgs.
func (loadFileArgs) Kind() string { return "load_file" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (loadFileArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: loadAttempts} }

// loadFileWorker streams a file into staging, from its checkpoint on, and enqueues the next one; the last enqueues the
// publish (Bulk Data 3.0, Output File Request).
type loadFileWorker struct {
	river.WorkerDefaults[loadFileArgs]
	engine *Engine
}

// loadTimeout bounds the load of one file. It is no judgement of slow payers, for which there is the idle timeout: after
// it, and not before, River gives a job up whose instance died. The reaper has taken the file over long before.
const loadTimeout = 24 * time.Hour

// Timeout implements river.Worker.
func (*loadFileWorker) Timeout(*river.Job[loadFileArgs]) time.Duration { return loadTimeout }

// Work implements river.Worker.
func (w *loadFileWorker) Work(ctx context.Context, job *river.Job[loadFileArgs]) error {
	e, args := w.engine, job.Args
	lease, err := e.store.LockFile(ctx, args.ExportID, args.File)
	if errors.Is(err, store.ErrLocked) {
		return nil // a duplicate: the file is being loaded
	}
	if err != nil {
		return err
	}
	defer lease.Release(ctx)
	x, err := e.store.Export(ctx, args.ExportID)
	if err != nil {
		return err
	}
	if x.State != store.StateLoading {
		return nil
	}
	note := func(wait time.Duration) error { return e.store.NoteFileDue(ctx, args.ExportID, args.File, wait) }
	err = w.load(ctx, job, x, lease)
	switch {
	case err == nil, store.IsStale(err):
		return nil
	case errors.Is(err, store.ErrStopped):
		if err := note(0); err != nil && !store.IsStale(err) {
			return err
		}
		return river.JobSnooze(0) // for any instance, at once
	case actionOf(err) == export.ActionRenew && ctx.Err() == nil:
		err = w.renew(ctx, x, err)
	}
	return settle(ctx, e, job, x, err, note)
}

func actionOf(err error) export.Action {
	act, _ := action(err)
	return act
}

func (w *loadFileWorker) load(ctx context.Context, job *river.Job[loadFileArgs], x store.Export, lease *store.Lease) error {
	e := w.engine
	p, ok := e.payers[x.Payer]
	if !ok {
		return &UnknownPayerError{x.Payer}
	}
	f, err := e.store.File(ctx, x.ID, job.Args.File)
	if err != nil {
		return err
	}
	if f.State != "queued" {
		return nil // a duplicate that comes after the load
	}
	if budget := p.Config.Limits.DownloadsPerFile; budget > 0 && f.Downloads >= budget {
		return &export.Error{
			Phase: export.PhaseFile, Code: "download_budget", Action: export.ActionRestart,
			Detail: "the file was requested as often as limits.downloads_per_file permits",
		}
	}
	if err := e.store.NoteDownload(ctx, x.ID, f.Ordinal); err != nil {
		return err
	}
	var source fileLines
	loaded, err := e.store.LoadFile(ctx, lease, x, f, store.LoadOptions{
		ChunkBytes: e.options.ChunkBytes,
		Stop:       e.draining,
		Open: func(ctx context.Context) (store.LineSource, error) {
			body, err := p.Client.Open(ctx, export.File{
				Type: f.ResourceType, URL: f.URL, RequiresAccessToken: f.RequiresToken, Count: f.ExpectedCount,
				Size: f.ExpectedBytes, SHA256: f.SHA256, Protection: f.Protection,
			})
			if err != nil {
				return nil, err
			}
			source.open(body, int64(p.Config.Limits.MaxLine))
			return &source, nil
		},
		WireBytes: source.wireBytes,
		OnChunk:   func(c store.Chunk) { e.observer.ChunkStaged(x.Payer, c) },
	})
	if disagrees(err) && f.Downloads > 0 {
		return finalError{err} // it has been read once more, and is still not what the manifest says
	}
	if err != nil {
		return err
	}
	log := e.logger.With("payer", x.Payer, "export_id", x.ID, "file", f.Ordinal, "type", f.ResourceType)
	if f.ExpectedBytes >= 0 && f.ExpectedBytes != loaded.Bytes { // what is counted, the versions of the guide leave open
		log.WarnContext(ctx, "the file has another size than the manifest says", "bytes", loaded.Bytes, "manifest", f.ExpectedBytes)
	}
	unproven := source.unproven() && f.ExpectedCount < 0 && f.SHA256 == ""
	if unproven {
		log.WarnContext(ctx, "nothing proves that the file was whole: it came without a length, a count or a checksum")
	}
	log.InfoContext(ctx, "file loaded", "lines", loaded.Lines, "bytes", loaded.Bytes, "staged", loaded.Staged, "unchanged", loaded.Unchanged,
		"quarantined", loaded.Quarantined)
	return finish(ctx, e, job, func(tx pgx.Tx) error {
		next, err := e.store.FileLoadedTx(ctx, tx, x, f.Ordinal, unproven)
		switch {
		case err != nil:
			return err
		case next.Publish:
			return e.insertTx(ctx, tx, publishExportArgs{ExportID: x.ID, Generation: x.Generation}, x.Queue)
		case next.File >= 0:
			return e.insertTx(ctx, tx, loadFileArgs{ExportID: x.ID, File: next.File}, x.Queue)
		}
		return nil
	})
}

// disagrees reports whether a file is not what the manifest says of it.
func disagrees(err error) bool {
	if isA[*store.CountMismatchError](err) {
		return true
	}
	protocol, ok := errors.AsType[*export.Error](err)
	return ok && protocol.Code == export.CodeFileChecksum
}

// renew asks for the manifest again, whose links had expired, and stores the new ones (protocol.md MAN-14). It returns
// what is left of the failure: the job is to be tried again with the new link, or the export has to start again.
func (w *loadFileWorker) renew(ctx context.Context, x store.Export, expired error) error {
	e := w.engine
	status, err := poll(ctx, e.payers[x.Payer].Client, x)
	if err != nil {
		return err
	}
	if !status.Complete {
		return retry(expired)
	}
	var same bool
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		same, err = e.store.RenewURLsTx(ctx, tx, x.ID, storedManifest(status))
		return err
	})
	if err != nil {
		return err
	}
	if !same {
		return &export.Error{
			Phase: export.PhaseFile, Code: "manifest_changed", Action: export.ActionRestart,
			Detail: "the links expired, and the manifest that was asked for again lists other files",
		}
	}
	return retry(expired)
}

// retry is a failure that the job is tried again for.
func retry(err error) error {
	if protocol, ok := errors.AsType[*export.Error](err); ok {
		again := *protocol
		again.Action = export.ActionRetry
		return &again
	}
	return err
}

// fileLines is the body of a file as the store reads it.
type fileLines struct {
	body  atomic.Pointer[export.Body]
	lines *export.LineReader
}

func (f *fileLines) open(body *export.Body, maxLine int64) {
	f.body.Store(body)
	f.lines = export.NewLineReader(body, maxLine)
}

// Next implements store.LineSource.
func (f *fileLines) Next() (store.Line, error) {
	line, err := f.lines.Next()
	if err != nil {
		return store.Line{}, err
	}
	return store.Line{
		Bytes: line.Bytes, Number: line.Number, End: line.End, TooLong: line.TooLong, Length: line.Length, Head: line.Head,
		Digest: line.SHA256,
	}, nil
}

// Close implements store.LineSource.
func (f *fileLines) Close() error {
	f.lines.Close()
	return f.body.Load().Close()
}

// unproven reports whether only the end of the connection said that the file was whole.
func (f *fileLines) unproven() bool {
	body := f.body.Load()
	return body != nil && body.CloseDelimited()
}

func (f *fileLines) wireBytes() int64 {
	if body := f.body.Load(); body != nil {
		return body.WireBytes()
	}
	return 0
}
