package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

const (
	// heartbeat is how often an instance says that it lives, well within the time after which it counts as gone.
	heartbeat = 10 * time.Second
	// beatTimeout bounds what a heartbeat waits for the database.
	beatTimeout = 5 * time.Second
	// removedPatience is how long a payer that this instance never had must be in nobody's configuration before
	// reload.removed_payers applies to its export: an instance that has it may be about to start.
	removedPatience = 2 * time.Minute
)

// retired remembers the payers that were taken out of this instance's configuration while it ran.
type retired struct {
	mu     sync.Mutex
	payers map[string]bool
}

func (r *retired) note(before, after map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for payer := range before {
		if _, ok := after[payer]; !ok {
			if r.payers == nil {
				r.payers = make(map[string]bool)
			}
			r.payers[payer] = true
		}
	}
	for payer := range after {
		delete(r.payers, payer)
	}
}

func (r *retired) has(payer string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.payers[payer]
}

// fleet is what an instance knows of the others.
type fleet struct {
	self       store.Instance
	mismatches map[string]map[string]string
	// orphans are exports of payers that nobody has configured, and since when that is so.
	orphans map[int64]time.Time
}

// wakeHeart lets the next heartbeat come at once.
func (d *Daemon) wakeHeart() {
	select {
	case d.wake <- struct{}{}:
	default: // it is about to
	}
}

// accompany says that this instance lives and what it has configured, and looks at the others, until ctx ends. It begins
// when the database is prepared.
func (d *Daemon) accompany(ctx context.Context) error {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	f := &fleet{
		self:    store.Instance{ID: d.id, Host: host, PID: os.Getpid(), Version: d.options.Version},
		orphans: make(map[int64]time.Time),
	}
	defer d.pulse.end(loopFleet)
	for waiting := true; waiting; {
		d.pulse.beat(loopFleet)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-d.prepared:
			waiting = false
		}
	}
	defer d.retire(ctx)
	for {
		d.pulse.beat(loopFleet)
		if err := d.beat(ctx, f); err != nil && ctx.Err() == nil {
			d.logger.WarnContext(ctx, "this instance cannot say that it lives", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-d.wake:
		}
	}
}

// retire takes the instance off the list, so that the others need not wait for it.
func (d *Daemon) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	if err := d.Database.Store.Retire(ctx, d.id); err != nil {
		d.logger.WarnContext(ctx, "this instance stays listed until it is missed", "error", err)
	}
}

func (d *Daemon) beat(ctx context.Context, f *fleet) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	now, s := d.using.Load(), d.Database.Store
	known, err := s.Beat(ctx, d.id, now.digest)
	if err != nil {
		return err
	}
	if !known {
		f.self.Digest, f.self.Payers = now.digest, now.digests
		if err := s.Announce(ctx, f.self); err != nil {
			return err
		}
	}
	mismatches, err := s.Mismatches(ctx)
	if err != nil {
		return err
	}
	d.compare(ctx, f, mismatches)
	if err := d.endRemoved(ctx, f, now.config.Reload.RemovedPayers); err != nil {
		return err
	}
	load, err := s.Load(ctx)
	if err != nil {
		return err
	}
	d.notify(fmt.Sprintf("STATUS=%d exports running, %d due", load.Running, load.Due), false)
	return nil
}

// compare warns, once a change, of payers that instances have configured differently.
func (d *Daemon) compare(ctx context.Context, f *fleet, mismatches map[string]map[string]string) {
	for _, payer := range slices.Sorted(maps.Keys(mismatches)) {
		if !reflect.DeepEqual(mismatches[payer], f.mismatches[payer]) {
			d.logger.WarnContext(ctx, "instances have different configurations for a payer: give all the same file, and reload them",
				"payer", payer, "digests", mismatches[payer])
		}
	}
	for payer := range f.mismatches {
		if mismatches[payer] == nil {
			d.logger.InfoContext(ctx, "instances have the same configuration for a payer again", "payer", payer)
		}
	}
	f.mismatches = mismatches
}

// endRemoved ends the exports of payers that are in no instance's configuration, where that is wanted.
func (d *Daemon) endRemoved(ctx context.Context, f *fleet, removed string) error {
	if removed != config.RemovedCancel {
		clear(f.orphans)
		return nil
	}
	exports, err := d.Database.Store.Unconfigured(ctx)
	if err != nil {
		return err
	}
	found := make(map[int64]time.Time, len(exports))
	for _, x := range exports {
		since, ok := f.orphans[x.ID]
		if !ok {
			since = time.Now()
		}
		found[x.ID] = since
		if !d.retired.has(x.Payer) && time.Since(since) < removedPatience {
			continue
		}
		err := d.Engine.Cancel(ctx, x.ID, store.Actor{Name: "reload.removed_payers", Source: store.SourceDaemon, Host: f.self.Host})
		if _, over := errors.AsType[*scheduler.StateError](err); over {
			continue // it has ended, or another instance was faster
		}
		if err != nil {
			return err
		}
		d.logger.WarnContext(ctx, "export canceled: its payer is in no configuration any more", "payer", x.Payer, "export_id", x.ID)
	}
	f.orphans = found
	return nil
}
