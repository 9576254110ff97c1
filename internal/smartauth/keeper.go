package smartauth

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// reason is why a token is fetched, as a metric label.
type reason string

const (
	reasonFirst   reason = "first"
	reasonAhead   reason = "ahead"   // the live one ends soon
	reasonExpired reason = "expired" // the last one ended
	reasonRefused reason = "refused" // a server answered 401 to the last one
)

const (
	// leastAttempt is the shortest time that an attempt gets while a live token runs out.
	leastAttempt = 5 * time.Second
	// firstAttempt is how long the first attempt may take when callers wait.
	firstAttempt = 10 * time.Second
	// tryAgainPause lies between two attempts after a refusal: some servers refuse in passing.
	tryAgainPause = time.Second
	// roundLimit bounds the attempts of one round: other scopes' syntax, corrected clock, the other key, once more.
	roundLimit = 4
)

// startKeeper sees to it that a keeper runs. The caller holds mu.
func (g *grant) startKeeper() bool {
	if !g.keeping {
		g.keeping = g.manager.start(g.keep)
	} else if g.token.IsZero() {
		g.wakeKeeper()
	}
	return g.keeping
}

func (g *grant) wakeKeeper() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// keep fetches tokens while there is somebody to fetch them for: callers that wait, or callers that lately used the
// token that now runs out.
func (g *grant) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, why, ok := g.plan(ctx)
		if !ok {
			return
		}
		if pause := time.Until(next); pause > 0 {
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-g.wake:
			case <-ctx.Done():
			}
			continue
		}
		g.fetch(ctx, why)
	}
}

// plan says when the next round is due; ok is false when the keeper has nothing to do and ends.
func (g *grant) plan(ctx context.Context) (next time.Time, why reason, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	live := g.token.live(now)
	switch {
	case ctx.Err() != nil:
	case live && now.Before(g.refreshAt):
		return g.refreshAt, "", true
	case live && now.Sub(g.lastUse) <= usedLately(g.token):
		return g.notBefore, reasonAhead, true
	case !live && g.waiters > 0:
		why = g.lost
		if !g.token.IsZero() {
			why = reasonExpired
		} else if why == "" {
			why = reasonFirst
		}
		return g.notBefore, why, true
	}
	g.keeping = false
	return time.Time{}, "", false
}

// usedLately is how recent the last use must be for a token to be renewed ahead of need.
func usedLately(t Token) time.Duration {
	return max(t.Expires.Sub(t.Obtained)/2, 15*time.Second)
}

// fetch makes a round of attempts and tells the callers how it ended.
func (g *grant) fetch(ctx context.Context, why reason) {
	g.mu.Lock()
	r := round{grant: g, registration: g.registration, discovery: g.discovery, syntax: g.syntax, timeout: g.attemptTimeout(why)}
	r.useKeys(g.registration.signing(), g.front, g.accepted)
	g.mu.Unlock()

	g.manager.metrics.refreshing(r.registration.Payer, why)
	token, failure := r.run(ctx)
	if ctx.Err() != nil && failure != nil {
		return // stopped, which is no failure
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	logger := g.manager.logger.With(slog.String("payer", r.registration.Payer), slog.String("token_host", g.host))
	if failure != nil {
		g.failed(ctx, logger, failure)
	} else {
		g.succeeded(logger, &r, token)
		g.manager.granted(r.registration.Payer, g.host, token.Expires.Sub(token.Obtained))
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// attemptTimeout is how long an attempt may take. One that hangs must leave time for the next: before the live token ends, or
// before those who wait lose patience. A server that is known to be slow, or was silent before, gets more. The caller
// holds mu.
func (g *grant) attemptTimeout(why reason) time.Duration {
	timeout := max(firstAttempt, 3*g.latency) << min(g.timeouts/2, 4)
	if why == reasonAhead {
		timeout = max(time.Until(g.token.Expires)/2, leastAttempt)
	}
	return min(timeout, g.manager.timeout)
}

func (g *grant) succeeded(logger *slog.Logger, r *round, token Token) {
	if g.failure != nil {
		logger.Info("access tokens are issued again")
	}
	token.serial = g.manager.serial.Add(1)
	g.token, g.refreshAt, g.doubted, g.lost = token, refreshTime(token), false, ""
	g.failure, g.failures, g.refusals, g.timeouts = nil, 0, 0, 0
	g.latency = time.Since(token.Obtained)
	// No second request at once, even if the token's life was over before it arrived.
	g.notBefore = time.Now().Add(time.Second)
	if g.registration == r.registration {
		g.syntax, g.accepted = r.syntax, r.key()
		if len(r.keys) > 0 {
			g.front, g.kid = r.keys[0], r.registration.kidOf(r.keys, r.keyIndex)
		}
	}
}

func (g *grant) failed(ctx context.Context, logger *slog.Logger, failure *Error) {
	var pause time.Duration
	g.timeouts++
	if failure.Code != CodeTimeout {
		g.timeouts = 0
	}
	if failure.Temporary {
		g.failures++
		longest := 30 * time.Second
		if g.waiters > 0 {
			longest = 10 * time.Second
		}
		pause = backoff(g.failures, time.Second, longest)
	} else {
		g.refusals++
		pause = backoff(g.refusals, time.Minute, 15*time.Minute)
	}
	pause = max(pause, failure.RetryAfter)
	now := time.Now()
	g.failure, g.last, g.lastAt, g.notBefore = failure, failure, now, now.Add(pause)
	g.manager.metrics.failed(failure.Payer, failure)
	level := slog.LevelWarn
	if !failure.Temporary {
		level = slog.LevelError
	}
	logger.Log(ctx, level, "cannot get an access token", slog.Any("error", failure), slog.String("hint", failure.Hint),
		slog.Bool("live_token", g.token.live(time.Now())), slog.Duration("next_attempt_in", pause.Round(time.Millisecond)))
}

// refreshTime is when a token is renewed: between 80 and 90 % of its life, and never later than min(30 s, a third) before
// its end. A token whose life the server did not know is not renewed ahead.
func refreshTime(t Token) time.Time {
	life := t.Expires.Sub(t.Obtained)
	if life <= lifeNone {
		return t.Expires
	}
	latest := min(life*9/10, life-min(30*time.Second, life/3))
	earliest := min(life*8/10, latest*19/20)
	return t.Obtained.Add(earliest + rand.N(latest-earliest+1)) //nolint:gosec // spreads load
}

// backoff doubles from first to longest, give or take a quarter.
func backoff(attempt int, first, longest time.Duration) time.Duration {
	pause := longest
	if attempt < 16 {
		pause = min(first<<(max(attempt, 1)-1), longest)
	}
	return pause*3/4 + rand.N(pause/2+1) //nolint:gosec // spreads load
}

func sleep(ctx context.Context, pause time.Duration) error {
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped in a pause: %w", ctx.Err())
	}
}
