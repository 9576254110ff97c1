package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/ops"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
)

const (
	// watchInterval is how often the files are looked at where reload.watch says so.
	watchInterval = 2 * time.Second
	// reloadTimeout bounds a reload: keys may have to be fetched.
	reloadTimeout = time.Minute
)

// using is the configuration that an instance uses, with what was made of it.
type using struct {
	config   *config.Config
	digest   string
	digests  map[string]string // of the payers' settings
	payers   []scheduler.Payer
	files    map[string]string // what lay in the payers' files of certificates when their clients were made
	loadedAt time.Time
}

func newUsing(c *config.Config, payers []scheduler.Payer, files map[string]string) *using {
	effective := c.Effective()
	return &using{
		config: c, digest: effective.Digest, digests: effective.Payers, payers: payers, files: files, loadedAt: time.Now(),
	}
}

// followConfig exchanges the configuration at each hangup, and where it is to be watched, when its files have changed. It
// returns when ctx ends.
func (d *Daemon) followConfig(ctx context.Context) error {
	if d.options.Load == nil {
		return nil
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	defer d.pulse.end(loopReload)
	w := watch{}
	for {
		d.pulse.beat(loopReload)
		select {
		case <-ctx.Done():
			return nil
		case <-d.options.Hangups:
			w.saw(d.using.Load().config.Fingerprint())
		case <-ticker.C:
			c := d.using.Load().config
			if !c.Reload.Watch || !w.changed(c.Fingerprint()) {
				continue
			}
		}
		d.reload(ctx)
	}
}

// watch tells when files have changed for good: they are half written at times, and so they count when two looks in a row
// find the same.
type watch struct{ acted, last string }

// saw notes what is acted on.
func (w *watch) saw(fingerprint string) { w.acted, w.last = fingerprint, fingerprint }

func (w *watch) changed(fingerprint string) bool {
	same := fingerprint == w.last
	w.last = fingerprint
	if !same || fingerprint == w.acted {
		return false
	}
	w.acted = fingerprint
	return true
}

// reload reads the configuration again and goes over to it, or says why not.
func (d *Daemon) reload(ctx context.Context) {
	d.notify("RELOADING=1", true)
	defer d.notify("READY=1", false)
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	result, err := d.Reload(ctx)
	d.metrics.Reloaded(result)
	if err != nil {
		attrs := []any{slog.Any("error", err)}
		if problems, ok := errors.AsType[*config.Error](err); ok {
			attrs = []any{slog.Any("problems", strings.Split(problems.Error(), "\n"))}
		}
		d.logger.ErrorContext(ctx, "the configuration is refused: the one before stays in use", attrs...)
		return
	}
	now := d.using.Load()
	d.metrics.ConfigInUse(now.digest, time.Now())
	if result == ops.ReloadUnchanged {
		d.logger.InfoContext(ctx, "configuration read again: nothing has changed", "digest", now.digest)
	}
}

// Reload reads the configuration again and, where nothing is wrong with it, goes over to it: payers, keys, and whatever else
// needs no restart. The result is one of those that ops counts; an error means that nothing has changed.
func (d *Daemon) Reload(ctx context.Context) (result string, err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	read, err := d.options.Load()
	if err != nil {
		return ops.ReloadRefused, err
	}
	before := d.using.Load()
	next, kept := before.config.Reloaded(read)
	if len(kept) > 0 {
		keys := make([]string, len(kept))
		for i, k := range kept {
			keys[i] = k.Key
		}
		d.logger.WarnContext(ctx, "a restart is needed for these keys to take effect: until then they keep their values", "keys", keys)
	}
	restore, err := d.useKeys(ctx, before.config.Keys, next.Keys)
	if err != nil {
		return ops.ReloadRefused, err
	}
	files := tlsFiles(next) // before they are read: what changes meanwhile differs at the next reload
	payers, exchanged, err := d.goOver(ctx, next, before, files)
	if err != nil {
		restore()
		return ops.ReloadRefused, err
	}
	if len(exchanged) > 0 {
		d.logger.InfoContext(ctx, "certificates exchanged: new connections to these payers use the files as they are now", "payers", exchanged)
	}
	after := newUsing(next, payers, files)
	differences := config.Compare(before.config.Effective(), next.Effective())
	same := len(differences) == 0 && after.digest == before.digest
	if same {
		after.loadedAt = before.loadedAt
	}
	d.using.Store(after)
	if d.options.Level != nil {
		d.options.Level.Set(LevelOf(next.Log))
	}
	d.retired.note(before.digests, after.digests)
	switch {
	case same && len(exchanged) > 0:
		return ops.ReloadApplied, nil
	case same:
		return ops.ReloadUnchanged, nil
	}
	d.tell(ctx, after.digest, differences)
	d.wakeHeart()
	return ops.ReloadApplied, nil
}

// goOver lets the engine go over to another configuration, and returns its payers, and those of whom only certificates have changed.
func (d *Daemon) goOver(ctx context.Context, next *config.Config, before *using, files map[string]string,
) (payers []scheduler.Payer, exchanged []string, err error) {
	tuning, err := d.tuning(next)
	if err != nil {
		return nil, nil, err
	}
	payers, exchanged, err = d.links.follow(next, before, files)
	if err != nil {
		return nil, nil, err
	}
	return payers, exchanged, d.Engine.Reconfigure(ctx, payers, tuning)
}

// tell logs what a reload has changed, and notes it for the audit.
func (d *Daemon) tell(ctx context.Context, digest string, differences []config.Difference) {
	var added, removed, changed, keys []string
	for _, difference := range differences {
		switch {
		case difference.Payer == "":
			keys = append(keys, difference.Key)
		case difference.Key != "":
			if len(changed) == 0 || changed[len(changed)-1] != difference.Payer {
				changed = append(changed, difference.Payer)
			}
		case difference.Change == config.Added:
			added = append(added, difference.Payer)
		default:
			removed = append(removed, difference.Payer)
		}
	}
	d.logger.InfoContext(ctx, "configuration exchanged", "digest", digest, "payers_added", added, "payers_changed", changed,
		"payers_removed", removed, "keys_changed", keys)
	d.diary.configured(digest, map[string]any{
		"by": "reload", "payers_added": added, "payers_changed": changed, "payers_removed": removed, "keys_changed": keys, "instance": d.id,
	})
}

// useKeys goes over to other signing keys, where the configuration has others; restore goes back.
func (d *Daemon) useKeys(ctx context.Context, before, next []config.Key) (restore func(), err error) {
	if sameKeys(before, next) {
		return func() {}, nil
	}
	set, err := smartauth.LoadKeySet(ctx, keyEntries(next, d.options.Secrets))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	old := d.keys.Use(set)
	return func() { d.keys.Use(old) }, nil
}

func sameKeys(a, b []config.Key) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		x.Source, y.Source = "", ""
		if x != y {
			return false
		}
	}
	return true
}

// samePayer reports whether nothing but the place in the files differs.
func samePayer(a, b config.Payer) bool {
	a.Source, b.Source, a.FromProfile, b.FromProfile = "", "", nil, nil
	return reflect.DeepEqual(a, b)
}

// LevelOf is the level of the configured log.
func LevelOf(c config.Log) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return slog.LevelInfo // the configuration was checked; a programmatic one may leave it out
	}
	return level
}
