package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/exportlog"
	"ingestd/internal/store"
)

// The queues that every daemon works. Loads and publishes have one of their own, so that they never keep a poll waiting;
// it takes no more of them at once than there are connections for bulk work. So have notifications, whose targets may hang, and the
// housekeeping of the fleet: a thousand kick-offs that are due at once do not keep the reaper waiting. Pruning, which may take its time,
// has one that it cannot keep the reaper waiting in, and that instances of older versions, which do not know of it, do not work.
const (
	queueControl = "control"
	queueBulk    = "bulk"
	queueNotify  = "notify"
	queueFleet   = "fleet"
	queuePrune   = "retention"
)

// Payer is a payer as the engine needs it: its settings and the client that speaks to it.
type Payer struct {
	Config config.Payer
	Client *export.Client
	// Covers returns what tells whether the payer's authorization lets resources of a type be read; nil: all of them.
	Covers func(ctx context.Context) (func(resourceType string) bool, error)

	digest string // of its settings
}

// Observer is told what happens, for metrics. Its methods must be quick and safe for concurrent use.
type Observer interface {
	// ChunkStaged is called for each committed chunk of a payer's file.
	ChunkStaged(payer string, c store.Chunk)
	// FileRead is called when a download ends, however it does: with how many bytes came over the wire.
	FileRead(payer string, wireBytes int64)
	// ExportEnded is called when an export is published, failed or held.
	ExportEnded(payer string, e store.Export)
	// JobFailed is called for each failed attempt of a job, with the stable code of the failure.
	JobFailed(payer, job, code string)
	// Notified is called for each attempt to deliver a notification: result is delivered, failed or given_up.
	Notified(target, result string)
	// Pruned is called for each transaction that deletes what is kept no longer, with one of store.PrunedTables.
	Pruned(table string, rows int64)
	// PruneFailed is called for each round of pruning that failed.
	PruneFailed()
}

// Options are what an Engine needs.
type Options struct {
	Store    *store.Store
	Payers   []Payer
	Logger   *slog.Logger
	Observer Observer // may be nil
	// Tracer begins the spans of exports; nil begins none.
	Tracer trace.Tracer
	// ExportLog writes the logs of payers that are to have one; nil writes none.
	ExportLog *exportlog.Log
	// Control and Downloads bound the jobs that this instance works at once; 8 each if 0.
	Control, Downloads int
	// Grace bounds the stop: what has not reached a checkpoint by then is cut off, and repeated elsewhere. 25 s if 0.
	Grace time.Duration
	// Queue, where set, makes this engine work the exports of that queue alone, for a run in the foreground.
	Queue string
	// ReapInterval is how often the leader looks for what dead instances left behind; 5 s if 0.
	ReapInterval time.Duration
	// PruneInterval is how often the leader has pruned what is kept no longer; 10 min if 0.
	PruneInterval time.Duration
	// JobTimeout bounds the jobs that have no bound of their own: kick-offs, polls and clean-ups; 3 min if 0.
	JobTimeout time.Duration
	// Tuning is what Reconfigure can exchange.
	Tuning Tuning
	// Busy, where set, is called when a load or a publish begins; what it returns is called when that ends.
	Busy func() (done func())
	// Pin makes the client for settings that an export began with, and that are not those of Payers. Without it, exports go on
	// under the settings of Payers.
	Pin func(config.Payer) (Payer, error)
}

// Engine is one instance's share of the work. Run it once.
type Engine struct {
	store    *store.Store
	roster   *roster
	logger   *slog.Logger
	observer Observer
	client   *river.Client[pgx.Tx]
	options  Options
	retries  retries
	waits    waits
	pace     pace
	clock    *clock
	tuning   atomic.Pointer[Tuning]
	reindex  reindexing
	draining chan struct{} // closed when the engine is to stop: loads end at their next checkpoint
	stopped  chan struct{} // closed when it has stopped
}

// New returns an engine. The database must have been migrated.
func New(o Options) (*Engine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider().Tracer("")
	}
	o.Control, o.Downloads = orDefault(o.Control, 8), orDefault(o.Downloads, 8)
	o.Downloads = min(o.Downloads, o.Store.BulkConnections())
	o.Grace, o.ReapInterval = orDefault(o.Grace, 25*time.Second), orDefault(o.ReapInterval, 5*time.Second)
	o.PruneInterval, o.JobTimeout = orDefault(o.PruneInterval, pruneInterval), orDefault(o.JobTimeout, jobTimeout)
	e := &Engine{
		store: o.Store, roster: newRoster(o.Payers), logger: o.Logger, observer: o.Observer, options: o,
		draining: make(chan struct{}), stopped: make(chan struct{}), clock: &clock{store: o.Store, logger: o.Logger},
	}
	if e.options.Busy == nil {
		e.options.Busy = func() func() { return func() {} }
	}
	e.tune(o.Tuning)
	e.retries.clock = e.clock

	workers := river.NewWorkers()
	river.AddWorker(workers, &startExportWorker{engine: e})
	river.AddWorker(workers, &pollExportWorker{engine: e})
	river.AddWorker(workers, &loadFileWorker{engine: e})
	river.AddWorker(workers, &publishExportWorker{engine: e})
	river.AddWorker(workers, &cleanUpWorker{engine: e})
	river.AddWorker(workers, &buildIndexesWorker{engine: e})
	river.AddWorker(workers, &reapWorker{engine: e})
	river.AddWorker(workers, &pruneWorker{engine: e})
	river.AddWorker(workers, newNotifyWorker(e))

	if err := newTicker(e).follow(e.roster.all()); err != nil {
		return nil, err
	}
	queues := map[string]river.QueueConfig{
		queueControl: {MaxWorkers: o.Control}, queueBulk: {MaxWorkers: o.Downloads}, queueNotify: {MaxWorkers: notifyWorkers},
		queueFleet: {MaxWorkers: 1}, queuePrune: {MaxWorkers: 1},
	}
	cooldown, poll := 20*time.Millisecond, 500*time.Millisecond
	if o.Queue != "" {
		// Somebody waits, and nobody else asks this queue: each step of the export may begin as soon as the one before ends, even
		// where the notification of it is missed because the listener is not connected yet.
		queues = map[string]river.QueueConfig{o.Queue: {MaxWorkers: o.Downloads}}
		cooldown, poll = 5*time.Millisecond, 50*time.Millisecond
	}
	var err error
	e.client, err = river.NewClient[pgx.Tx](newDriver(o.Store), &river.Config{
		Schema:               store.EngineSchema,
		Queues:               queues,
		Workers:              workers,
		PeriodicJobs:         e.periodicJobs(),
		Logger:               slog.New(newQuieter(o.Logger.Handler())),
		FetchCooldown:        cooldown,
		FetchPollInterval:    poll,
		JobTimeout:           o.JobTimeout,
		RescueStuckJobsAfter: 2 * o.JobTimeout,
		RetryPolicy:          &e.retries,
		SoftStopTimeout:      o.Grace,
		ReindexerSchedule:    &e.reindex,
		// The engine's times are the database's: by a host's clock that is behind, a job that is put off would run at once,
		// and by one that is ahead, hours too late.
		Test: river.TestConfig{Time: e.clock},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the job engine: %w", err)
	}
	return e, nil
}

// Run works jobs until ctx ends, and then stops: no new jobs, running loads go on to their next checkpoint, and whatever
// is not there within the grace period is cut off. Nothing is lost by that, only repeated.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.stopped)
	// The engine stops by its own rules when ctx ends; what is given to Start ends it.
	startCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if _, _, err := e.clock.look(ctx); err != nil {
		return fmt.Errorf("start the job engine: %w", err)
	}
	if err := e.reindex.look(ctx, e.store.OwnsEngine); err != nil {
		return fmt.Errorf("start the job engine: %w", err)
	}
	if err := e.client.Start(startCtx); err != nil {
		return fmt.Errorf("start the job engine: %w", err)
	}
	beats, stopBeats := context.WithCancel(context.WithoutCancel(ctx)) // it lives until its jobs have stopped
	var beating sync.WaitGroup
	beating.Go(func() { e.beat(beats) })
	defer beating.Wait()
	defer stopBeats()
	all := e.roster.all()
	e.noteBases(ctx, slices.Sorted(maps.Keys(all)))
	e.warnOfSharedClients(ctx)
	e.logger.InfoContext(ctx, "engine started", "payers", len(all), "downloads", e.options.Downloads)
	ticking, stopTicking := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { e.keepTime(ticking) })
	defer group.Wait()
	defer stopTicking()
	select {
	case <-ctx.Done():
	case <-e.client.Stopped():
		return errors.New("the job engine stopped by itself")
	}
	close(e.draining)
	cancel()
	<-e.client.Stopped()
	e.logger.Info("engine stopped")
	return nil
}

// keepTime looks what is due until ctx ends. A run in the foreground starts nothing by itself, and only follows the clock.
func (e *Engine) keepTime(ctx context.Context) {
	if e.options.Queue == "" {
		newTicker(e).run(ctx)
		return
	}
	for {
		select {
		case <-time.After(lookInterval):
		case <-ctx.Done():
			return
		}
		if _, _, err := e.clock.look(ctx); err != nil && ctx.Err() == nil {
			e.logger.WarnContext(ctx, "cannot read the clock of Postgres", "error", err)
		}
	}
}

// periodicJobs are what the leader enqueues: the housekeeping of the fleet. A run in the foreground may lead as well: what it
// enqueues here, the daemons do. It does not enqueue what can wait until a daemon leads, and would pile up where there is none.
func (e *Engine) periodicJobs() []*river.PeriodicJob {
	jobs := []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(e.options.ReapInterval),
		func() (river.JobArgs, *river.InsertOpts) { return reapArgs{}, &river.InsertOpts{Queue: queueFleet} },
		&river.PeriodicJobOpts{RunOnStart: true})}
	if e.options.Queue == "" {
		jobs = append(jobs, river.NewPeriodicJob(river.PeriodicInterval(e.options.PruneInterval),
			func() (river.JobArgs, *river.InsertOpts) { return pruneArgs{}, nil }, &river.PeriodicJobOpts{RunOnStart: true}))
	}
	return jobs
}

// insertTx enqueues a job in the caller's transaction, on the queue of the export.
func (e *Engine) insertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, queue string) error {
	opts := &river.InsertOpts{Queue: queueControl}
	switch args.(type) {
	case loadFileArgs, publishExportArgs:
		opts.Queue = queueBulk
	case notifyArgs:
		opts.Queue = queueNotify
	}
	if queue != "" {
		opts.Queue = queue
	}
	if _, err := e.client.InsertTx(ctx, tx, args, opts); err != nil {
		return fmt.Errorf("enqueue %s: %w", args.Kind(), err)
	}
	return nil
}

// finish ends a job in one transaction: what change does, and the job's completion, are committed together. Where the
// change comes too late, because a duplicate of the job was faster, the job ends all the same.
func finish[T river.JobArgs](ctx context.Context, e *Engine, job *river.Job[T], change func(tx pgx.Tx) error) error {
	err := e.store.InTx(ctx, func(tx pgx.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return completeTx(ctx, tx, job)
	})
	if store.IsStale(err) {
		e.logger.DebugContext(ctx, "job came too late", "job", job.Kind, "job_id", job.ID)
		return nil
	}
	return err
}

func completeTx[T river.JobArgs](ctx context.Context, tx pgx.Tx, job *river.Job[T]) error {
	if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
		return fmt.Errorf("complete the job: %w", err)
	}
	return nil
}

// retries say when a failed job is tried again: when its failure asked for, which may be the payer's Retry-After, or else by
// backoffDelay.
type retries struct {
	waits sync.Map // job's number → time.Duration
	clock *clock
}

func (r *retries) put(jobID int64, wait time.Duration) { r.waits.Store(jobID, wait) }

// NextRetry implements river.ClientRetryPolicy.
func (r *retries) NextRetry(job *rivertype.JobRow) time.Time {
	stored, _ := r.waits.LoadAndDelete(job.ID)
	if wait, ok := stored.(time.Duration); ok {
		return r.clock.Now().Add(wait)
	}
	return r.clock.Now().Add(backoffDelay(len(job.Errors)))
}

// backoffDelay is 2 s, 4 s, 8 s … up to 5 min, with a tenth of jitter.
func backoffDelay(failures int) time.Duration {
	delay := min(2*time.Second<<min(failures, 10), 5*time.Minute)
	return delay + rand.N(delay/10) //nolint:gosec // jitter needs no secrecy
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

type nobody struct{}

func (nobody) ChunkStaged(string, store.Chunk)  {}
func (nobody) FileRead(string, int64)           {}
func (nobody) ExportEnded(string, store.Export) {}
func (nobody) JobFailed(string, string, string) {}
func (nobody) Notified(string, string)          {}
func (nobody) Pruned(string, int64)             {}
func (nobody) PruneFailed()                     {}
