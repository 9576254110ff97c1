package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// Options say how a run goes.
type Options struct {
	// Ingestd is the binary.
	Ingestd string
	// Dir is an empty directory for everything that is written. Postgres, which may run as another user, must be able to pass it.
	Dir string
	// Duration is for how long there is trouble. The quiet after it, and the comparison, take some minutes more at the most.
	Duration time.Duration
	// Seed decides what happens.
	Seed uint64
	// Instances and Payers are how many take part: 3 and 12 where they are 0.
	Instances, Payers int
	// Interval is the schedule of each payer: 10 s if 0.
	Interval time.Duration
	// Verbose tells of each trouble when it happens.
	Verbose bool
	// Out is told what happens.
	Out io.Writer
}

func (o Options) withDefaults() Options {
	if o.Instances == 0 {
		o.Instances = 3
	}
	if o.Payers == 0 {
		o.Payers = 12
	}
	if o.Interval == 0 {
		o.Interval = 10 * time.Second
	}
	return o
}

// Run lets ingestd live through the troubles of a seed, and says what came of it. The error is a failure to find out; what is wrong with ingestd
// stands in the verdict.
func Run(ctx context.Context, o Options) (Verdict, error) {
	return run(ctx, o, func(context.Context, *world) error { return nil })
}

// run is Run with something to do before the judgement.
func run(ctx context.Context, o Options, meanwhile func(context.Context, *world) error) (v Verdict, err error) {
	o = o.withDefaults()
	w, err := newWorld(ctx, o)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return v, err
	}
	plan := newPlan(o.Seed, o.Duration, o.Instances, o.Payers)
	w.say("seed %d: %d instances, %d payers, %d troubles within %s", o.Seed, o.Instances, o.Payers, len(plan), o.Duration)
	if err := w.begin(ctx); err != nil {
		return v, err
	}

	watching, stopWatching := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { w.watch(watching) })
	defer watcher.Wait()
	defer stopWatching()

	if err := w.rage(ctx, plan); err != nil {
		return v, fmt.Errorf("make trouble: %w", err)
	}
	w.say("quiet: the exports that run end, and each payer is exported once more")
	last, err := w.settle(ctx)
	if err != nil {
		return v, fmt.Errorf("let it settle: %w", err)
	}
	stopWatching()
	watcher.Wait()
	if err := meanwhile(ctx, w); err != nil {
		return v, err
	}
	return w.judge(ctx, last)
}

// Print writes the verdict for people.
func (v *Verdict) Print(out io.Writer) error {
	fmt.Fprintf(out, "\ntimes  trouble\n")
	for _, name := range slices.Sorted(maps.Keys(v.Troubles)) {
		fmt.Fprintf(out, "%5d  %s\n", v.Troubles[name], name)
	}
	fmt.Fprintf(out, "\nexports:")
	for _, state := range slices.Sorted(maps.Keys(v.Exports)) {
		fmt.Fprintf(out, " %d %s,", v.Exports[state], state)
	}
	fmt.Fprintf(out, " %d ledgers balance\nrows verified: %d\n", v.Ledgers, v.Rows)
	fmt.Fprintf(out, "wire: %d client assertions, each with a jti of its own, %d tokens; %d jobs left at payers that nobody could know of\n",
		v.Assertions, v.Tokens, v.JobsLeft)
	fmt.Fprintf(out, "searched for secrets and patients' data: %.1f MB of logs, metrics, answers and control tables\n", float64(v.Searched)/1e6)
	fmt.Fprintf(out, "largest instance: %.0f MiB, %d goroutines\n", float64(v.PeakRSS)/(1<<20), v.PeakGoroutines)
	for _, wrong := range v.Wrong {
		fmt.Fprintf(out, "WRONG: %s\n", wrong)
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	return nil
}
