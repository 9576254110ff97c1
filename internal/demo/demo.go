package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"

	"golang.org/x/sync/errgroup"
)

// Options are what the demo needs.
type Options struct {
	// Dir is where the database, the keys, the configuration and the log go, and stay. Empty: a temporary directory, which
	// is removed in the end, unless the demo failed: the log is in it.
	Dir string
	// Keep leaves everything running after the rounds, until ctx ends.
	Keep bool
	// Out is told what happens.
	Out io.Writer
	// Display returns what shows the exports of one round; nil shows nothing.
	Display func() Display
	// Patients of each payer; 400 if 0. One patient is about 80 kB of NDJSON.
	Patients int
	// Interval is the schedule: an export of each payer every so often; 20 s if 0.
	Interval time.Duration
	// Program is how the reader calls this program, for the commands that the demo proposes; "ingestd" if empty.
	Program string
	// Version of this binary, for the metrics.
	Version string
}

// Display shows the progress of exports. Show is called for several payers at once.
type Display interface {
	Show(payer string, exportID int64, p store.Progress)
	// Close leaves the last state in sight, and gives Out back to the demo.
	Close()
}

// ErrDirInUse says that the directory holds a demo already.
var ErrDirInUse = errors.New("there is a demo in this directory already")

// Run shows two rounds of exports and verifies them. It returns nil only if every row was verified; with Keep it then waits
// for ctx to end. The error says what was not as it should be: a *DifferenceError where tables and payers differ,
// ErrDirInUse for a directory that is taken.
func Run(ctx context.Context, o Options) error { return run(ctx, o, nil) }

// hook is called between the publication of a payer's n-th export and its verification.
type hook func(ctx context.Context, s *store.Store, payer string, n int) error

func run(ctx context.Context, o Options, beforeCheck hook) (err error) {
	d, err := newDemo(o, beforeCheck)
	if err != nil {
		return err
	}
	d.say("Three simulated payers, a private Postgres and the daemon, all on this machine. No payer is like the other:\n")
	defer func() { d.leaveDir(err) }()
	defer func() {
		for _, p := range d.payers {
			err = errors.Join(err, p.stop())
		}
	}()
	for _, p := range d.payers {
		if err := p.start(ctx, d.Dir); err != nil {
			return err
		}
		d.say("  %-7s %s", p.name, p.says)
	}
	if err := d.configure(ctx); err != nil {
		return err
	}
	c, err := config.Load(d.config)
	if err != nil {
		return fmt.Errorf("the demo's configuration: %w", err)
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	d.say("\nconfiguration  %s\nlog            %s\n\nstarting Postgres and the daemon ...", d.config, d.log)
	instance, err := daemon.Open(ctx, daemon.Options{
		Config: c, Logger: slog.New(slog.NewJSONHandler(log, nil)), Version: o.Version,
	})
	if err != nil {
		return err
	}
	defer instance.Close(ctx)
	return d.show(ctx, instance)
}

// show runs the daemon for as long as the rounds take.
func (d *demo) show(ctx context.Context, instance *daemon.Daemon) error {
	d.store = instance.Database.Store
	verified := false
	group, groupCtx := errgroup.WithContext(ctx)
	daemonCtx, stopDaemon := context.WithCancel(groupCtx)
	group.Go(func() error { return instance.Run(daemonCtx) })
	group.Go(func() error {
		defer stopDaemon()
		if err := d.rounds(groupCtx); err != nil {
			return err
		}
		verified = true
		d.propose()
		if d.Keep {
			<-groupCtx.Done()
		}
		return nil
	})
	err := group.Wait()
	if ctx.Err() != nil && !verified {
		return errors.New("stopped before everything was verified")
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // the end that Keep waits for
	}
	return err
}

// demo is one showing.
type demo struct {
	Options
	temporary   bool
	config      string // the configuration file
	log         string // the daemon's log
	admin       string // address of the admin listener
	payers      []*payer
	store       *store.Store
	beforeCheck hook
}

func newDemo(o Options, beforeCheck hook) (*demo, error) {
	if o.Patients == 0 {
		o.Patients = 400
	}
	if o.Interval == 0 {
		o.Interval = 20 * time.Second
	}
	if o.Display == nil {
		o.Display = func() Display { return noDisplay{} }
	}
	if o.Program == "" {
		o.Program = "ingestd"
	}
	if beforeCheck == nil {
		beforeCheck = func(context.Context, *store.Store, string, int) error { return nil }
	}
	d := &demo{Options: o, payers: cast(o.Patients), beforeCheck: beforeCheck}
	if err := d.makeDir(); err != nil {
		return nil, err
	}
	d.config, d.log = filepath.Join(d.Dir, "ingestd.yaml"), filepath.Join(d.Dir, "ingestd.log")
	return d, nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *demo) makeDir() error {
	if d.Dir == "" {
		dir, err := os.MkdirTemp("", "ingestd-demo-")
		if err != nil {
			return fmt.Errorf("make the demo's directory: %w", err)
		}
		// Postgres may run as another user, who must be able to pass through.
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // keys, configuration and log in it are their owner's only
			return fmt.Errorf("make the demo's directory: %w", err)
		}
		d.Dir, d.temporary = dir, true
		return nil
	}
	dir, err := filepath.Abs(d.Dir)
	if err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	d.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as above
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ingestd.yaml")); err == nil {
		return fmt.Errorf("%w: %s", ErrDirInUse, dir)
	}
	return nil
}

// leaveDir removes the temporary directory, except where it tells why the demo failed.
func (d *demo) leaveDir(err error) {
	switch {
	case !d.temporary:
		d.say("\n%s holds the database, the keys, the configuration and the log.", d.Dir)
	case err != nil:
		d.say("\nThe log of the daemon is %s. Remove %s when you have read it.", d.log, d.Dir)
	default:
		_ = os.RemoveAll(d.Dir) // it is the system's temporary directory
	}
}

type noDisplay struct{}

func (noDisplay) Show(string, int64, store.Progress) {}
func (noDisplay) Close()                             {}
