package smartauth

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// discoveryLife is how long a discovery document is believed without looking again.
	discoveryLife = 24 * time.Hour
	// discoveryPause is how long a document that says nothing of a token endpoint is left alone.
	discoveryPause = 5 * time.Minute
	// rediscoveryPause is the least time between two readings that a failing token endpoint asks for.
	rediscoveryPause = time.Minute
)

// directory caches what one FHIR server says of its authorization server. What was read once is used while it cannot be read
// again: a discovery that fails stops nothing that runs.
type directory struct {
	manager *Manager

	mu           sync.Mutex
	client       discoveryClient
	registration *Registration
	found        *Discovery
	readAt       time.Time // of found
	triedAt      time.Time // when the last reading ended, well or not
	reading      bool
	failures     int
	failure      *Error
	notBefore    time.Time
	changed      chan struct{} // closed when a reading ends
}

// use makes later readings go through this client, and forgets a failure: the configuration may have changed.
func (d *directory) use(registration *Registration, client discoveryClient) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.client, d.registration = client, registration
	d.failure, d.notBefore = nil, time.Time{}
}

// lookup returns what is known, waiting for the first reading, or for one that ended after the given time.
func (d *directory) lookup(ctx context.Context, after time.Time) (*Discovery, error) {
	patience := time.Now().Add(d.manager.patience)
	for {
		found, changed, err := d.look(after, patience)
		if found != nil || err != nil {
			return found, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the discovery of the token endpoint: %w", context.Cause(ctx))
		case <-d.manager.ctx.Done():
			return nil, ErrClosed
		}
	}
}

func (d *directory) look(after, patience time.Time) (*Discovery, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.found != nil {
		stale := now.Sub(d.readAt) > discoveryLife
		wanted := !after.IsZero() && !d.triedAt.After(after) && now.Sub(d.triedAt) > rediscoveryPause
		if (stale || wanted) && !now.Before(d.notBefore) {
			d.read()
		}
		if !d.reading || !wanted {
			return d.found, nil, nil
		}
		return nil, d.changed, nil
	}
	if d.failure != nil && now.Before(d.notBefore) && (!d.failure.Temporary || d.notBefore.After(patience)) {
		return nil, nil, d.failure.in(d.notBefore.Sub(now))
	}
	if !now.Before(patience) && d.failure != nil {
		return nil, nil, d.failure.in(d.notBefore.Sub(now))
	}
	if !d.read() {
		return nil, nil, ErrClosed
	}
	return nil, d.changed, nil
}

// read starts a reading, unless one is under way. The caller holds mu.
func (d *directory) read() bool {
	if d.reading {
		return true
	}
	client, registration, pause := d.client, d.registration, time.Until(d.notBefore)
	d.reading = d.manager.start(func(ctx context.Context) {
		if sleep(ctx, pause) != nil {
			return
		}
		found, failure := client.discover(ctx, registration.Payer)
		if ctx.Err() == nil {
			d.finish(registration, found, failure)
		}
	})
	return d.reading
}

func (d *directory) finish(registration *Registration, found *Discovery, failure *Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	logger := d.manager.logger.With(slog.String("payer", registration.Payer))
	d.reading, d.triedAt = false, now
	if failure == nil && found.instead != nil && d.found != nil && d.found.Source != found.Source {
		// The next source would tell less, and may name another endpoint: the cached copy of the better one goes on.
		failure = &Error{
			Code: CodeDiscovery, Hint: hintFor(CodeDiscovery), Payer: registration.Payer, Host: d.client.base.Host, Temporary: true,
			RetryAfter: found.instead.retryAfter, cause: fmt.Errorf("smart-configuration: %w", found.instead),
		}
	}
	if failure != nil {
		d.failures++
		d.failure = failure
		pause := discoveryPause
		if failure.Temporary {
			pause = max(backoff(d.failures, time.Second, 30*time.Second), failure.RetryAfter)
		}
		d.notBefore = now.Add(pause)
		d.manager.metrics.failed(registration.Payer, failure)
		logger.Warn("cannot read the payer's authorization metadata", slog.Any("error", failure),
			slog.Bool("cached_copy", d.found != nil))
	} else {
		if d.found != nil && hostOf(d.found.TokenEndpoint) != hostOf(found.TokenEndpoint) {
			logger.Warn("the payer's token endpoint moved to another host",
				slog.String("old_host", hostOf(d.found.TokenEndpoint)), slog.String("new_host", hostOf(found.TokenEndpoint)))
		}
		found.Warnings = found.warnings(registration)
		for _, warning := range found.Warnings {
			logger.Warn("the payer's authorization metadata does not fit the registration", slog.String("warning", warning))
		}
		d.found, d.readAt = found, now
		if found.instead != nil { // better than none, until the document can be read
			d.readAt = now.Add(discoveryPause - discoveryLife)
		}
		d.failures, d.failure, d.notBefore = 0, nil, time.Time{}
	}
	close(d.changed)
	d.changed = make(chan struct{})
}
