package daemon

import (
	"context"
	"sync"
	"time"
)

// The loops whose silence means that the process hangs.
const (
	loopReload = "reload"
	loopFleet  = "fleet"
)

// pulseLimit is how long a loop may be silent: longer than anything that it waits for.
const pulseLimit = 2 * time.Minute

// pulse tells whether the main loops are alive.
type pulse struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// beat says that a loop is alive.
func (p *pulse) beat(loop string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = make(map[string]time.Time)
	}
	p.last[loop] = time.Now()
}

// end says that a loop has come to its end.
func (p *pulse) end(loop string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, loop)
}

// silent returns a loop that has not been heard of for too long; empty where there is none.
func (p *pulse) silent(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for loop, at := range p.last {
		if now.Sub(at) > pulseLimit {
			return loop
		}
	}
	return ""
}

// notify tells the service manager of a change of state (sd_notify); stamped adds when.
func (d *Daemon) notify(state string, stamped bool) {
	if d.options.Notify != nil {
		d.options.Notify(state, stamped)
	}
}

// supervise tells the service manager that the instance is ready, that it lives, for as long as its main loops do, and that
// it is about to stop. stopping ends when it is to stop, ctx when it has.
func (d *Daemon) supervise(ctx, stopping context.Context) error {
	d.notify("READY=1\nSTATUS=started", false)
	interval := d.options.Watchdog / 2 // as sd_watchdog_enabled(3) recommends
	if interval <= 0 {
		interval = pulseLimit
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	told := stopping.Done()
	for {
		select {
		case <-told:
			told = nil
			d.notify("STOPPING=1\nSTATUS=stopping: running work goes on to its next checkpoint", false)
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if loop := d.pulse.silent(now); loop != "" {
				d.logger.ErrorContext(ctx, "a main loop does not answer: the service manager will restart this instance", "loop", loop)
			} else if d.options.Watchdog > 0 {
				d.notify("WATCHDOG=1", false)
			}
		}
	}
}
