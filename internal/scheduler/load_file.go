package scheduler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ingestd/internal/export"
	"ingestd/internal/failpoint"
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

// loadShare is how long a job goes on with further files of its export, before others have their turn at its slot. Payers
// cut exports into tens of thousands of tiny files, and a job for each would spend its time on the way through the queue
// (protocol.md FILE-10).
const loadShare = 2 * time.Second

// Work implements river.Worker.
func (w *loadFileWorker) Work(ctx context.Context, job *river.Job[loadFileArgs]) error {
	defer w.engine.options.Busy()()
	began := time.Now()
	for ordinal := job.Args.File; ordinal >= 0; {
		next, err := w.one(ctx, job, ordinal, func() bool { return time.Since(began) < loadShare && !w.engine.isDraining() })
		if err != nil {
			return err
		}
		ordinal = next
	}
	return nil
}

// one loads one file. It returns the next one, which this job is to go on with, or -1 where it has ended, or has nothing
// to do.
func (w *loadFileWorker) one(ctx context.Context, job *river.Job[loadFileArgs], ordinal int, goOn func() bool) (next int, err error) {
	e, exportID := w.engine, job.Args.ExportID
	lease, err := e.store.LockFile(ctx, exportID, ordinal)
	if errors.Is(err, store.ErrLocked) {
		return -1, nil // a duplicate: the file is being loaded
	}
	if err != nil {
		return -1, err
	}
	defer lease.Release(ctx)
	failpoint.Here(failpoint.FileLocked)
	x, err := e.store.Export(ctx, exportID)
	if err != nil {
		return -1, err
	}
	if x.State != store.StateLoading && x.State != store.StatePolling {
		return -1, nil
	}
	ctx, span := e.span(ctx, x, spanFile, attribute.Int("file", ordinal), attribute.Int("attempt", job.Attempt))
	defer span.End()
	note := func(wait time.Duration) error { return e.store.NoteFileDue(ctx, exportID, ordinal, wait) }
	next, err = w.load(ctx, job, x, lease, ordinal, goOn)
	var busy *store.HostBusyError
	switch {
	case err == nil:
		return next, nil
	case store.IsStale(err):
		return -1, nil
	case ordinal != job.Args.File && ctx.Err() == nil:
		// It gets a job of its own, which counts its attempts.
		return -1, finish(ctx, e, job, func(tx pgx.Tx) error {
			return e.insertTx(ctx, tx, loadFileArgs{ExportID: x.ID, File: ordinal}, x.Queue)
		})
	case errors.As(err, &busy):
		if err := note(busy.Wait); err != nil && !store.IsStale(err) {
			return -1, err
		}
		return -1, river.JobSnooze(busy.Wait) // the worker is for files of other hosts
	case errors.Is(err, store.ErrStopped):
		if err := note(0); err != nil && !store.IsStale(err) {
			return -1, err
		}
		return -1, river.JobSnooze(0) // for any instance, at once
	case actionOf(err) == export.ActionRenew && ctx.Err() == nil:
		err = w.renew(ctx, x, err)
	}
	return -1, settle(ctx, e, job, x, err, note)
}

// isDraining reports whether the engine is to stop.
func (e *Engine) isDraining() bool {
	select {
	case <-e.draining:
		return true
	default:
		return false
	}
}

func actionOf(err error) export.Action {
	act, _ := action(err)
	return act
}

func (w *loadFileWorker) load(ctx context.Context, job *river.Job[loadFileArgs], x store.Export, lease *store.Lease, ordinal int,
	goOn func() bool,
) (next int, err error) {
	e := w.engine
	p, err := e.payerOf(ctx, x)
	if err != nil {
		return -1, err
	}
	f, err := e.store.File(ctx, x.ID, ordinal)
	if err != nil {
		return -1, err
	}
	if f.State != "queued" {
		return -1, nil // a duplicate that comes after the load
	}
	if budget := p.Config.Limits.DownloadsPerFile; budget > 0 && f.Downloads >= budget {
		return -1, &export.Error{
			Phase: export.PhaseFile, Code: codeDownloadBudget, Action: export.ActionRestart,
			Detail: "the file was requested as often as limits.downloads_per_file permits",
		}
	}
	host := hostOf(f.URL)
	limited, err := e.store.TakeSlot(ctx, lease, host)
	if err != nil {
		return -1, err
	}
	if err := e.store.NoteDownload(ctx, x.ID, f.Ordinal); err != nil {
		return -1, err
	}
	e.journalRequest(x, f)
	var source fileLines
	var slow bool
	chunkSpan := e.chunkSpan(ctx, x)
	goesOn := sync.OnceFunc(func() { e.endTrouble(ctx, x, f.Ordinal) })
	loaded, err := e.store.LoadFile(ctx, lease, x, f, store.LoadOptions{
		ChunkBytes: e.tuning.Load().ChunkBytes,
		RepairText: p.Config.Load.RepairText,
		Stop:       e.draining,
		Open: func(ctx context.Context) (store.LineSource, error) {
			asked := time.Now()
			body, err := p.Client.Open(ctx, export.File{
				Type: f.ResourceType, URL: f.URL, RequiresAccessToken: f.RequiresToken, Count: f.ExpectedCount,
				Size: f.ExpectedBytes, SHA256: f.SHA256, Protection: f.Protection,
			})
			if err != nil {
				return nil, err
			}
			slow = e.pace.slow(host, time.Since(asked))
			source.open(body, int64(p.Config.Limits.MaxLine))
			return &source, nil
		},
		WireBytes: source.wireBytes,
		OnChunk: func(c store.Chunk) {
			e.observer.ChunkStaged(x.Payer, c)
			chunkSpan(c)
			goesOn()
		},
	})
	e.observer.FileRead(x.Payer, source.wireBytes())
	trace.SpanFromContext(ctx).SetAttributes(attribute.Int64("lines", loaded.Lines), attribute.Int64("bytes", loaded.Bytes),
		attribute.Int64("wire_bytes", source.wireBytes()))
	e.governed(ctx, host, limited, slow, err)
	if !errors.Is(err, store.ErrStopped) && !store.IsStale(err) {
		e.journalDownload(x, f, loaded, err)
	}
	if store.IsMismatch(err) && f.Mismatches > 0 {
		return -1, finalError{err} // it has been read once more, and is still not what the manifest says
	}
	if err != nil {
		return -1, err
	}
	log := e.logger.With("payer", x.Payer, "export_id", x.ID, "file", f.Ordinal, "type", f.ResourceType)
	if f.ExpectedBytes >= 0 && f.ExpectedBytes != loaded.Bytes { // what is counted, the versions of the guide leave open
		log.WarnContext(ctx, "the file has another size than the manifest says", "bytes", loaded.Bytes, "manifest", f.ExpectedBytes)
	}
	if x.OrganizedBy != "" && f.ExpectedCount >= 0 && f.ExpectedCount != loaded.Lines { // what it counts is open as well
		log.WarnContext(ctx, "the organized file has another number of lines than the manifest says", "lines", loaded.Lines,
			"manifest", f.ExpectedCount)
	}
	unproven := source.unproven() && f.ExpectedCount < 0 && f.SHA256 == ""
	if unproven {
		log.WarnContext(ctx, "nothing proves that the file was whole: it came without a length, a count or a checksum")
	}
	log.InfoContext(ctx, "file loaded", "lines", loaded.Lines, "bytes", loaded.Bytes, "staged", loaded.Staged, "unchanged", loaded.Unchanged,
		"quarantined", loaded.Quarantined, "repaired", loaded.Repaired)
	return w.loaded(ctx, job, x, loaded, unproven, goOn())
}

// loaded records that a file is loaded, together with what follows: the publish after the last one; the next file in this
// job, if it is to go on, or in another; or the end of the job.
func (w *loadFileWorker) loaded(ctx context.Context, job *river.Job[loadFileArgs], x store.Export, file store.File, unproven, goOn bool,
) (int, error) {
	e := w.engine
	next := store.Next{File: -1}
	err := e.store.InTx(ctx, func(tx pgx.Tx) (err error) {
		if next, err = e.store.FileLoadedTx(ctx, tx, x, file, unproven); err != nil {
			return err
		}
		failpoint.Here(failpoint.FileCommit)
		switch {
		case next.File >= 0 && goOn: // without a job, it is the reaper's if this process dies
			return nil
		case next.File >= 0:
			err = e.insertTx(ctx, tx, loadFileArgs{ExportID: x.ID, File: next.File}, x.Queue)
		case next.Publish:
			err = e.insertTx(ctx, tx, publishExportArgs{ExportID: x.ID, Generation: x.Generation}, x.Queue)
		}
		if err != nil {
			return err
		}
		return completeTx(ctx, tx, job)
	})
	failpoint.Here(failpoint.FileCommitted)
	if err != nil || !goOn {
		return -1, err
	}
	return next.File, nil
}

// renew asks for the manifest again, whose links had expired, and stores the new ones (protocol.md MAN-14). It returns
// what is left of the failure: the job is to be tried again with the new link, or the export has to start again.
func (w *loadFileWorker) renew(ctx context.Context, x store.Export, expired error) error {
	e := w.engine
	p, err := e.payerOf(ctx, x)
	if err != nil {
		return err
	}
	status, err := poll(ctx, p.Client, x)
	if err != nil {
		return err
	}
	if status.Manifest == nil {
		return retry(expired)
	}
	err = e.store.InTx(ctx, func(tx pgx.Tx) error {
		return manifestError(e.store.RenewURLsTx(ctx, tx, x.ID, storedManifest(status), status.Complete))
	})
	if err != nil {
		return err
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
	if protocol, ok := errors.AsType[*export.Error](err); ok && protocol.Code == export.CodeFileChecksum {
		err = &store.MismatchError{Err: err}
	}
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
