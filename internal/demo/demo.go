package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/store"
)

// Options are what the demo needs.
type Options struct {
	// Dir is where the database, the keys, the configuration and the log go, and stay; a new temporary directory if empty.
	Dir string
	// Keep leaves everything running until ctx ends, after the rounds.
	Keep bool
	// Out is told what happens.
	Out io.Writer
	// Show brings the progress of an export up to date; may be nil.
	Show func(payer string, id int64, p store.Progress)
	// ShowEnd ends the display of a round, before its table is printed; may be nil.
	ShowEnd func()
	// Patients of each payer; 400 if 0. One patient is about 80 kB.
	Patients int
	// Interval is the schedule: an export of each payer every so often; 20 s if 0.
	Interval time.Duration
	// Version of this binary, for the metrics, and Program, how it was called, for the commands that the demo suggests.
	Version, Program string
}

// Run shows two rounds of exports and verifies them. The error says what was not as it should be.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o, func(context.Context, *store.Store, store.Export) error { return nil })
}

// run is Run with something to do between the publish of an export and its verification.
func run(ctx context.Context, o Options, meanwhile func(context.Context, *store.Store, store.Export) error) (err error) {
	if o.Patients == 0 {
		o.Patients = 400
	}
	if o.Interval == 0 {
		o.Interval = 20 * time.Second
	}
	if o.Program == "" {
		o.Program = "ingestd"
	}
	if o.Show == nil {
		o.Show = func(string, int64, store.Progress) {}
	}
	if o.ShowEnd == nil {
		o.ShowEnd = func() {}
	}
	d := &demo{Options: o, payers: cast(o.Patients), meanwhile: meanwhile}
	if err := d.makeDir(); err != nil {
		return err
	}
	for _, p := range d.payers {
		defer func() { err = errors.Join(err, p.stop()) }()
		if err := p.start(ctx, d.Dir); err != nil {
			return err
		}
		d.say("payer %s %s", p.name, p.says)
	}
	if err := d.configure(ctx); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.Dir, "ingestd.log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	d.say("starting a private Postgres and the daemon in %s", d.Dir)
	c, err := config.Load(d.config)
	if err != nil {
		return fmt.Errorf("the demo's configuration: %w", err)
	}
	instance, err := daemon.Open(ctx, daemon.Options{Config: c, Logger: slog.New(slog.NewJSONHandler(log, nil)), Version: o.Version})
	if err != nil {
		return err
	}
	defer instance.Close(ctx)
	d.store = instance.Database.Store

	group, groupCtx := errgroup.WithContext(ctx)
	daemonCtx, stopDaemon := context.WithCancel(groupCtx)
	group.Go(func() error { return instance.Run(daemonCtx) })
	group.Go(func() error {
		defer stopDaemon()
		return d.rounds(groupCtx)
	})
	return group.Wait()
}

// demo is one showing.
type demo struct {
	Options
	config    string // the configuration file
	admin     string // address of the admin listener
	payers    []*payer
	store     *store.Store
	meanwhile func(context.Context, *store.Store, store.Export) error
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *demo) makeDir() error {
	if d.Dir == "" {
		dir, err := os.MkdirTemp("", "ingestd-demo-")
		if err != nil {
			return fmt.Errorf("make the demo's directory: %w", err)
		}
		// The private Postgres may run as another user, who must be able to pass through.
		if err := os.Chmod(dir, 0o755); err != nil {
			return fmt.Errorf("make the demo's directory: %w", err)
		}
		d.Dir = dir
		return nil
	}
	dir, err := filepath.Abs(d.Dir)
	if err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	d.Dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ingestd.yaml")); err == nil {
		return fmt.Errorf("%s holds a demo already: choose another --dir", dir)
	}
	return nil
}

// configure writes the configuration that an operator would write.
func (d *demo) configure(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	d.admin = listener.Addr().String()
	_ = listener.Close() // the daemon takes the port over

	var b strings.Builder
	fmt.Fprintf(&b, "# Written by ingestd demo.\ndatabase: {url: \"embedded:%s\"}\nadmin: {listen: \"%s\"}\nkeys:\n",
		filepath.Join(d.Dir, "postgres"), d.admin)
	for _, p := range d.payers {
		fmt.Fprintf(&b, "  - {id: %s, private_key: \"file:%s\", algorithm: %s}\n", p.name, p.keyFile(d.Dir), p.algorithm)
	}
	fmt.Fprintf(&b, "defaults:\n  schedule: \"@every %s\"\n  limits: {poll_min: 1s, downloads: 2}\n  export: {types: [%s]}\npayers:\n",
		d.Interval, strings.Join(types, ", "))
	for _, p := range d.payers {
		fmt.Fprintf(&b, "  - name: %s\n    fhir_url: %s\n    auth: {client_id: %s, key: %s}\n    export: {level: %s", p.name, p.url,
			p.clientID(), p.name, p.level)
		if p.groupID != "" {
			fmt.Fprintf(&b, ", group_id: %q", p.groupID)
		}
		b.WriteString("}\n")
	}
	d.config = filepath.Join(d.Dir, "ingestd.yaml")
	if err := os.WriteFile(d.config, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// rounds shows both rounds, and then waits where everything is to be kept.
func (d *demo) rounds(ctx context.Context) error {
	d.say("\nround 1: the schedule, every %s, starts a full export of each payer", d.Interval)
	first, err := d.wait(ctx, 1)
	if err != nil {
		return err
	}
	if err := d.reportFirst(ctx, first); err != nil {
		return err
	}
	d.say("\nround 2: the payers' data have changed; the next exports ask for what is new since the last (_since)")
	second, err := d.wait(ctx, 2)
	if err != nil {
		return err
	}
	if err := d.reportSecond(ctx, second); err != nil {
		return err
	}
	d.reportTokens()
	d.say("\nEvery row was compared with what the payers hold: nothing lost, nothing extra, nothing altered.")
	if !d.Keep {
		d.say(`
The daemon stops; the data stay in %[1]s. Look at them:

  %[2]s psql   --config %[3]s -- -c 'SELECT payer, count(*) FROM fhir.explanation_of_benefit GROUP BY payer'
  %[2]s status --config %[3]s
  %[2]s exports list --config %[3]s
  less %[3]s

'make demo KEEP=1' (ingestd demo --keep) leaves it running. To remove it all: rm -r %[1]s`, d.Dir, d.Program, d.config)
		return nil
	}
	d.say(`
The demo keeps running: an export of each payer every %[1]s. From another terminal:

  %[2]s psql   --config %[3]s
  %[2]s status --config %[3]s
  %[2]s exports list --config %[3]s
  curl http://%[4]s/metrics

The daemon's log is %[5]s. Ctrl-C ends it; to remove it all afterwards: rm -r %[6]s`, d.Interval, d.Program, d.config, d.admin,
		filepath.Join(d.Dir, "ingestd.log"), d.Dir)
	<-ctx.Done()
	return nil
}

// maxExports is more than the exports that a payer can have before the rounds are over.
const maxExports = 100

// verified is an export whose rows have been compared with what the payer held.
type verified struct {
	store.Export

	right map[string]int // rows that are right, by type
}

// wait shows the progress until each payer has published its n-th export and its rows have been verified. An export that
// fails ends it.
func (d *demo) wait(ctx context.Context, n int) (map[string]verified, error) {
	published := make(map[string]verified)
	for len(published) < len(d.payers) {
		for _, p := range d.payers {
			if _, done := published[p.name]; done {
				continue
			}
			exports, err := d.store.Exports(ctx, p.name, maxExports)
			if err != nil {
				return nil, err
			}
			if len(exports) < n {
				continue
			}
			x := exports[len(exports)-n] // the newest come first
			progress, err := d.store.Progress(ctx, x.ID)
			if err != nil {
				return nil, err
			}
			d.Show(p.name, x.ID, progress)
			switch x.State {
			case store.StatePublished:
				if err := d.meanwhile(ctx, d.store, x); err != nil {
					return nil, err
				}
				right, err := d.check(ctx, p)
				if err != nil {
					return nil, err
				}
				published[p.name] = verified{x, right}
			case store.StateFailed, store.StateCanceled, store.StateHeld:
				return nil, fmt.Errorf("export %d of %s is %s: %s: %s", x.ID, p.name, x.State, x.ErrorCode, x.Error)
			case store.StateStarting, store.StatePolling, store.StateLoading, store.StatePublishing:
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("stopped before every row was verified")
		case <-time.After(200 * time.Millisecond):
		}
	}
	d.ShowEnd()
	return published, nil
}
