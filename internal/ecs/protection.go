package ecs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// expiry is for how long the protection is asked for: where a release is lost, ECS waits no longer for this task.
	expiry = 10 * time.Minute
	// renewal is how often it is asked for anew while work goes on.
	renewal = 4 * time.Minute
	// retry is when it is tried again behind a failure.
	retry = 30 * time.Second
	// linger is how long it stays when work ends: between two files there is often but a moment.
	linger = 10 * time.Second
	// hold is how long it lasts at most in a row, and pause for how long it is then let go: ECS, which looks all the time, can stop a
	// task of an old deployment that always finds work.
	hold  = time.Hour
	pause = 3 * time.Minute
	// release bounds the last request, at the stop.
	release = 3 * time.Second
)

// Options are what a Protection needs.
type Options struct {
	// URI is ECS_AGENT_URI.
	URI     string
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Protection keeps ECS from choosing this task while it works.
type Protection struct {
	agent    *agent
	logger   *slog.Logger
	failures prometheus.Counter
	held     prometheus.Gauge
	changed  chan struct{}

	mu      sync.Mutex
	working int
}

// New returns a protection, which Run keeps up.
func New(o Options) (*Protection, error) {
	agent, err := newAgent(o.URI)
	if err != nil {
		return nil, err
	}
	p := &Protection{
		agent: agent, logger: o.Logger, changed: make(chan struct{}, 1),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestd_ecs_protection_failures_total", Help: "Requests for ECS task scale-in protection that failed.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ingestd_ecs_protected", Help: "1 while this task is protected from being chosen when the service is made smaller.",
		}),
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(p.failures, p.held)
	}
	return p, nil
}

// Work says that work begins, and returns what says that it has ended. It does not wait.
func (p *Protection) Work() (done func()) {
	p.count(1)
	return sync.OnceFunc(func() { p.count(-1) })
}

func (p *Protection) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.working
	p.working += n
	if (before == 0) != (p.working == 0) {
		select {
		case p.changed <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func (p *Protection) isWorking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.working > 0
}

// Run keeps the protection up as long as there is work, until ctx ends, and lets it go then.
func (p *Protection) Run(ctx context.Context) error {
	defer p.agent.http.CloseIdleConnections()
	k := keeper{p: p}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if k.protected {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), release)
				defer cancel()
				k.set(last, false)
			}
			return nil
		case <-p.changed:
		case <-timer.C:
		}
		timer.Reset(k.look(ctx, time.Now(), p.isWorking()))
	}
}

// keeper is what Run remembers from one look to the next.
type keeper struct {
	p         *Protection
	protected bool // as far as is known: a request whose answer was lost counts
	failing   bool
	asked     time.Time // when it was last asked for, with or without success
	since     time.Time // since when it is protected in a row
	idle      time.Time // since when there is no work; zero while there is
	resting   time.Time // until when it is let go although there is work
}

// look does what is due now, and returns when to look again.
func (k *keeper) look(ctx context.Context, now time.Time, working bool) time.Duration {
	if working {
		k.idle = time.Time{}
	} else if k.idle.IsZero() {
		k.idle = now
	}
	every := renewal
	if k.failing {
		every = retry
	}
	due := k.asked.Add(every)
	switch {
	case !working && k.protected && now.Before(k.idle.Add(linger)):
		return k.idle.Add(linger).Sub(now)
	case !working && k.protected:
		if k.failing && now.Before(due) {
			return due.Sub(now)
		}
		k.asked = now
		k.set(ctx, false)
		return retry
	case !working:
		k.since = time.Time{}
		return renewal
	case now.Before(k.resting):
		return k.resting.Sub(now)
	case !k.since.IsZero() && now.Sub(k.since) >= hold:
		k.since, k.resting = time.Time{}, now.Add(pause)
		k.set(ctx, false)
		k.asked = time.Time{}
		return pause
	case (k.protected || k.failing) && now.Before(due):
		return due.Sub(now)
	}
	if k.since.IsZero() {
		k.since = now
	}
	k.asked = now
	k.set(ctx, true)
	return retry
}

// set asks for the protection, or lets it go. Of failures in a row the first is logged.
func (k *keeper) set(ctx context.Context, protect bool) {
	s := state{ProtectionEnabled: protect}
	if protect {
		s.ExpiresInMinutes = int(expiry.Minutes())
	}
	err := k.p.agent.put(ctx, s)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		k.protected = k.protected || protect // the stop cut it off, which is no failure; the answer may have been lost
		return
	}
	if err != nil {
		k.p.failures.Inc()
		if !k.failing {
			k.p.logger.WarnContext(ctx, "ECS task protection cannot be changed: work goes on without it", "protect", protect, "error", err)
		}
		k.failing = true
		k.protected = k.protected || protect // the answer may have been lost
		return
	}
	if k.failing {
		k.p.logger.InfoContext(ctx, "ECS task protection can be changed again", "protect", protect)
	}
	k.failing, k.protected = false, protect
	held := 0.0
	if protect {
		held = 1
	}
	k.p.held.Set(held)
}
