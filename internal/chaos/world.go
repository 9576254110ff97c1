package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// world is all that takes part.
type world struct {
	options   Options
	dir       string
	database  *database
	payers    []*payer
	instances []*instance
	witness   *witness
	abroad    *abroad

	mu sync.Mutex
	// counts are the troubles that were made, by name.
	counts map[string]int
	// printed is what was printed elsewhere than into logs, by who printed it, once each.
	printed map[string]map[string]struct{}
	peaks   peaks
}

// newWorld starts everything but the instances. What was started must be ended by close, also after an error.
func newWorld(ctx context.Context, o Options) (*world, error) {
	w := &world{
		options: o, dir: o.Dir, witness: newWitness(),
		counts: make(map[string]int), printed: make(map[string]map[string]struct{}),
	}
	var err error
	if w.database, err = startDatabase(ctx, filepath.Join(o.Dir, "postgres")); err != nil {
		return w, err
	}
	if w.abroad, err = openAbroad(ctx, w.witness); err != nil {
		return w, err
	}
	for n := range o.Payers {
		p, err := startPayer(ctx, o.Dir, n, o.Seed*1000+uint64(n), w.witness)
		if err != nil {
			return w, err
		}
		w.payers = append(w.payers, p)
	}
	for n := range o.Instances {
		i := &instance{
			number: n, program: o.Ingestd,
			config: filepath.Join(o.Dir, fmt.Sprintf("instance-%d.yaml", n)), log: filepath.Join(o.Dir, fmt.Sprintf("instance-%d.log", n)),
		}
		if i.admin, err = freePort(ctx); err != nil {
			return w, err
		}
		if err := w.configure(i, 0); err != nil {
			return w, err
		}
		w.instances = append(w.instances, i)
	}
	return w, w.writeConfig(filepath.Join(o.Dir, "operator.yaml"), w.database.direct, "", 0)
}

// begin makes the tables, and starts the instances.
func (w *world) begin(ctx context.Context) error {
	if _, err := w.operate(ctx, "migrate", "up"); err != nil {
		return err
	}
	for _, i := range w.instances {
		if err := i.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// configure writes an instance's configuration. The variant changes what a reload may change.
func (w *world) configure(i *instance, variant uint64) error {
	url, err := w.database.through()
	if err != nil {
		return err
	}
	return w.writeConfig(i.config, url, i.admin, variant)
}

func (w *world) writeConfig(path, database, admin string, variant uint64) error {
	var b strings.Builder
	fmt.Fprintf(&b, "database: {url: %q}\nadmin: {listen: %q}\nlog: {format: json, level: debug}\n", database, admin)
	fmt.Fprintf(&b, "workers: {chunk: %dKiB}\nkeys:\n", 64+64*(variant%3))
	for _, p := range w.payers {
		fmt.Fprintf(&b, "  - {id: %s, private_key: %q}\n", p.name, "file:"+p.key)
	}
	b.WriteString("payers:\n")
	for n, p := range w.payers {
		fmt.Fprintf(&b, `  - name: %s
    fhir_url: %s
    auth: {client_id: %s, key: %s}
    schedule: "@every %s"
    export: {since: %s, since_overlap: 5s, timeout: 60s}
    limits: {downloads: %d, poll_min: 200ms, poll_max: 2s}
    load: {history: %s, quarantine_max_share: 0.05}
`, p.name, p.base, p.name, p.name, w.options.Interval, p.since, 1+(variant+uint64(n))%3, p.keeps)
	}
	// A new file in the place of the old: nobody reads half of it.
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write a configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write a configuration: %w", err)
	}
	return nil
}

// close ends everything that runs.
func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, i := range w.instances {
		if i.cmd != nil && !i.ended() {
			_ = i.signal(syscall.SIGCONT)
			errs = append(errs, i.end(ctx, syscall.SIGKILL))
		}
	}
	for _, p := range w.payers {
		errs = append(errs, p.stop())
	}
	if w.abroad != nil {
		errs = append(errs, w.abroad.close())
	}
	if w.database != nil {
		errs = append(errs, w.database.stop(ctx))
	}
	return errors.Join(errs...)
}

// count counts something that was done.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// keep remembers what was printed, to be searched at the end. Lines that were printed before are kept once.
func (w *world) keep(by string, texts ...[]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.printed[by] == nil {
		w.printed[by] = make(map[string]struct{})
	}
	for _, text := range texts {
		for line := range bytes.Lines(text) {
			w.printed[by][string(line)] = struct{}{}
		}
	}
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(w.options.Out, format+"\n", args...) }
