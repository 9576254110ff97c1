package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"ingestd/internal/config"
	"ingestd/internal/ecs"
	"ingestd/internal/exportlog"
	"ingestd/internal/ops"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
	"ingestd/internal/tracing"
)

// Options are what a Daemon needs.
type Options struct {
	Config  *config.Config
	Logger  *slog.Logger
	Version string
	// SkipMigrations leaves the database's schema as it is, and fails where it is not this binary's.
	SkipMigrations bool
	// Wait makes Run wait for a database that is not there yet; without it Open fails.
	Wait bool
	// Host is this host's name, for the audit.
	Host string
	// Queue, where set, makes the engine work the exports of that queue alone, for a run in the foreground.
	Queue string
	// Secrets follows the references of the configuration. Default: NewSecrets(nil).
	Secrets *Secrets
	// ECSAgent is the URI of the agent of ECS that this instance is a task of; empty where it is none.
	ECSAgent string
	// LookForKeys is how often the keys are looked at for changes. Default: 1 min.
	LookForKeys time.Duration

	// Load reads the configuration again, for Reload; without it, the configuration stays as it is.
	Load func() (*config.Config, error)
	// Hangups makes Run reload at each value.
	Hangups <-chan os.Signal
	// Level, where set, follows log.level.
	Level *slog.LevelVar
	// Notify, where set, tells the service manager of a change of state in the form of sd_notify(3); stamped adds the
	// monotonic time.
	Notify func(state string, stamped bool)
	// Watchdog is how often the service manager wants to hear that the instance lives, at least; 0: not at all.
	Watchdog time.Duration
}

// Daemon is one instance of ingestd.
type Daemon struct {
	Engine   *scheduler.Engine
	Database *Database

	options Options
	id      string
	keys    *smartauth.KeyRing
	manager *smartauth.Manager
	links   links
	metrics *ops.Metrics
	// protection is nil where this is no task of ECS.
	protection *ecs.Protection
	tracing    *tracing.Provider
	logger     *slog.Logger

	// using is the configuration of the moment; reloading is held while it is exchanged.
	using     atomic.Pointer[using]
	reloading sync.Mutex
	retired   retired
	pulse     pulse
	prepared  chan struct{} // closed when the database is
	wake      chan struct{} // wakes the heartbeat
	diary     *diary
}

// Open connects to the database, migrates it unless that is switched off, and puts the instance together. With Options.Wait
// it leaves the first two to Run. Close it.
func Open(ctx context.Context, o Options) (*Daemon, error) {
	if o.Secrets == nil {
		o.Secrets = NewSecrets(nil)
	}
	o.Logger = slog.New(tracing.Handler(o.Logger.Handler(), tracing.LogOptions{
		Instance: store.Instance{Host: cmp.Or(o.Host, "localhost"), PID: os.Getpid()}.Name(), Traced: o.Config.Tracing.Endpoint != "",
	}))
	database, err := openDatabase(ctx, o.Config.Database, o.Secrets, o.Logger, o.Wait)
	if err != nil {
		return nil, err
	}
	d, err := open(ctx, o, database)
	if err != nil {
		database.Close(ctx)
		return nil, err
	}
	return d, nil
}

func open(ctx context.Context, o Options, database *Database) (*Daemon, error) {
	c := o.Config
	if database.warning != "" {
		o.Logger.WarnContext(ctx, "the connection to the database is not as safe as it could be", "warning", database.warning)
	}
	if !o.Wait {
		if err := database.Prepare(ctx, !o.SkipMigrations); err != nil {
			return nil, fmt.Errorf("prepare the database: %w", err)
		}
	}
	id := uuid.NewString()
	traces, err := tracing.New(ctx, tracing.Options{
		Config: c.Tracing, Resolve: o.Secrets.Resolve, Logger: o.Logger, Version: o.Version, Instance: id,
	})
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		Database: database, options: o, logger: o.Logger, id: id, tracing: traces,
		prepared: make(chan struct{}), wake: make(chan struct{}, 1), diary: newDiary(),
	}
	d.metrics = ops.NewMetrics(ops.MetricsOptions{
		Store: database.Store, Config: func() *config.Config { return d.using.Load().config }, Version: o.Version, Logger: o.Logger,
	})
	d.manager = smartauth.NewManager(smartauth.ManagerOptions{
		Logger: o.Logger, Metrics: d.metrics.Registry(), Granted: d.diary.token, Patience: jobPatience,
	})
	if d.keys, err = openKeys(ctx, c.Keys, o); err != nil {
		return nil, err
	}
	d.links = links{keys: d.keys, manager: d.manager, secrets: o.Secrets, metrics: d.metrics, logger: o.Logger}
	files := tlsFiles(c)
	all, err := d.links.payers(c)
	if err != nil {
		return nil, err
	}
	d.using.Store(newUsing(c, all, files))
	d.metrics.ConfigInUse(d.using.Load().digest, d.using.Load().loadedAt)
	if o.Queue == "" {
		d.diary.configured(d.using.Load().digest, map[string]any{
			"by": "start", "version": o.Version, "payers": len(c.Payers), "instance": d.id,
		})
	}
	tuning, err := d.tuning(c)
	if err != nil {
		return nil, err
	}
	var busy func() (done func())
	if o.ECSAgent != "" && c.ECS.TaskProtection {
		d.protection, err = ecs.New(ecs.Options{URI: o.ECSAgent, Logger: o.Logger, Metrics: d.metrics.Registry()})
		if err != nil {
			o.Logger.WarnContext(ctx, "this task cannot be protected by ECS: work goes on without it", "error", err)
		} else {
			busy = d.protection.Work
		}
	}
	d.Engine, err = scheduler.New(scheduler.Options{
		Store: database.Store, Payers: all, Logger: o.Logger, Observer: d.metrics, Queue: o.Queue,
		ExportLog: &exportlog.Log{Logger: o.Logger}, Tuning: tuning, Tracer: traces.Tracer(),
		Control: c.Workers.Control, Downloads: c.Workers.Downloads, Grace: c.Shutdown.Grace,
		Pin: d.links.pin, Busy: busy,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// tuning is what of a configuration the engine can go over to while it works.
func (d *Daemon) tuning(c *config.Config) (scheduler.Tuning, error) {
	notifier, err := NewNotifier(c, d.options.Secrets, d.options.Version)
	if err != nil {
		return scheduler.Tuning{}, err
	}
	return scheduler.Tuning{
		ChunkBytes: int(c.Workers.Chunk), MaxExports: c.Fleet.MaxExports, Indexes: Indexes(c.Database), Notifier: notifier,
		Retention: store.Retention(c.Retention),
	}, nil
}

// jobPatience is how long a job waits for a token where there is none: each waits in a worker that the other payers need. Then it has
// failed, with the reason, and is tried again later. It is longer than the first attempt may take.
const jobPatience = 15 * time.Second

// Run works until ctx ends, and then stops cleanly within the grace period. A listener that cannot be opened is an error
// before any work begins.
func (d *Daemon) Run(ctx context.Context) error {
	admin, listener, err := d.listen(ctx)
	if err != nil {
		return err
	}
	jwks, err := d.listenJWKS(ctx)
	if err != nil {
		if listener != nil {
			_ = listener.Close() // the error above says why nothing is served
		}
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// The engine needs tokens until it has stopped, and operators want to see it stop.
	restCtx, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stopRest()
		if err := d.waitForDatabase(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		close(d.prepared)
		return d.Engine.Run(ctx)
	})
	if d.options.Queue == "" {
		group.Go(func() error { return d.followConfig(ctx) })
		group.Go(func() error { return d.accompany(restCtx) })
		group.Go(func() error { return d.supervise(restCtx, ctx) })
	}
	group.Go(func() error { return d.keepDiary(restCtx) })
	if d.protection != nil {
		group.Go(func() error { return d.protection.Run(restCtx) })
	}
	group.Go(func() error { return d.manager.Run(restCtx) })
	group.Go(func() error { return d.keys.Run(restCtx) })
	if jwks != nil {
		group.Go(func() error { return d.jwks().Run(restCtx, jwks) })
	}
	if listener != nil {
		group.Go(func() error { return admin.server.Serve(restCtx, listener) })
		group.Go(func() error { return admin.page.Run(restCtx) })
	}
	stopping := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { stopping <- time.Now() })
	err = group.Wait() // it ends ctx, if nothing did before
	d.flushTraces(ctx, <-stopping)
	return err
}

// waitForDatabase waits for a database that was not there when the instance was opened, and prepares it. It returns nil when
// ctx ends first.
func (d *Daemon) waitForDatabase(ctx context.Context) error {
	if !d.options.Wait {
		return nil
	}
	prepare := func(ctx context.Context) error { return d.Database.Prepare(ctx, !d.options.SkipMigrations) }
	err := d.Database.Store.WaitUntilUp(ctx, prepare, func(err error, pause time.Duration) {
		d.logger.WarnContext(ctx, "waiting for the database", "error", err, "pause", pause)
		d.notify("STATUS=waiting for the database", false)
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to stop, and nothing has begun
	}
	if err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	return nil
}

// Close closes the database.
func (d *Daemon) Close(ctx context.Context) {
	d.flushTraces(ctx, time.Now())
	d.Database.Close(ctx)
}
