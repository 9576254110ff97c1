package smartauth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// freshAge is the age below which a token that is refused is probably not the reason of the refusal.
const freshAge = time.Minute

// grantKey is what makes two sources share a token.
type grantKey struct{ method, clientID, endpoint, scopes string }

// grant is the one token of a client at a token endpoint, for a set of scopes, with all that is known about getting the next.
// At most one goroutine, its keeper (keeper.go), sends requests for it; callers take the live token or wait for the keeper.
type grant struct {
	manager  *Manager
	endpoint string
	host     string
	skew     *clockSkew

	mu           sync.Mutex
	registration *Registration
	discovery    *Discovery
	syntax       scopeSyntax // of derived scopes
	accepted     *Key        // the key that the server accepted last, when
	front        *Key        // this one was the first
	kid          string      // that the accepted key went by
	payers       map[string]bool

	token     Token
	refreshAt time.Time
	lastUse   time.Time
	doubted   bool   // a request was refused again straight after this token was fetched for it
	strikes   int    // refusals of fresh tokens in a row
	lost      reason // why there is no token

	failure   *Error // of the last round; nil after a success
	last      *Error // the last failure, and when it was
	lastAt    time.Time
	failures  int           // temporary ones in a row
	refusals  int           // others in a row
	timeouts  int           // attempts in a row without an answer
	latency   time.Duration // of the last answer with a token
	notBefore time.Time

	waiters int
	keeping bool
	changed chan struct{} // closed when a round ends
	wake    chan struct{} // tells a sleeping keeper to look again
}

// adopt takes the credentials of a source that was made later.
func (g *grant) adopt(registration *Registration, found *Discovery) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.payers[registration.Payer] = true
	if g.registration == registration && g.discovery == found {
		return
	}
	if g.registration != registration {
		// The configuration changed: what was refused before may be right now.
		g.failure, g.refusals, g.notBefore = nil, 0, time.Time{}
		g.wakeKeeper()
	}
	if g.discovery.scopeSyntax() != found.scopeSyntax() {
		g.syntax = found.scopeSyntax()
	}
	g.registration, g.discovery = registration, found
}

// wait returns a live token, or the next one, or the reason why there is none. With untilMissing it does not wait longer than
// until the token endpoint turns out to be missing, so that the caller can look for another.
func (g *grant) wait(ctx context.Context, untilMissing bool) (Token, error) {
	start := time.Now()
	patience := time.NewTimer(g.manager.patience)
	defer patience.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	serial := g.token.serial
	for {
		now := time.Now()
		if g.token.live(now) || (g.token.serial > serial && !g.token.IsZero()) {
			// A token that came while waiting is used even if its life was over before it arrived.
			g.lastUse = now
			g.startKeeper()
			return g.token.clone(), nil
		}
		if g.failure != nil && now.Before(g.notBefore) &&
			(!g.failure.Temporary || (untilMissing && g.failure.rediscover) || g.notBefore.After(start.Add(g.manager.patience))) {
			return Token{}, g.failure.in(g.notBefore.Sub(now))
		}
		if !g.startKeeper() {
			return Token{}, ErrClosed
		}
		if err := g.waitForChange(ctx, patience.C); err != nil {
			return Token{}, err
		}
	}
}

// waitForChange waits for the end of a round. The caller holds mu, and holds it again afterwards.
func (g *grant) waitForChange(ctx context.Context, patience <-chan time.Time) error {
	changed := g.changed
	g.waiters++
	g.mu.Unlock()
	var err error
	expired := false
	select {
	case <-changed:
	case <-patience:
		expired = true
	case <-ctx.Done():
		err = fmt.Errorf("wait for an access token: %w", context.Cause(ctx))
	case <-g.manager.ctx.Done():
		err = ErrClosed
	}
	g.mu.Lock()
	g.waiters--
	if g.waiters == 0 {
		g.wakeKeeper()
	}
	if expired && !g.token.live(time.Now()) {
		if g.failure != nil {
			return g.failure.in(time.Until(g.notBefore))
		}
		return &Error{Code: CodeTimeout, Hint: hintFor(CodeTimeout), Payer: g.registration.Payer, Host: g.host, Temporary: true}
	}
	return err
}

// invalidate drops the token if it is still the current one.
func (g *grant) invalidate(t Token) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drop(t)
}

func (g *grant) drop(t Token) bool {
	if g.token.IsZero() || g.token.serial != t.serial {
		return false
	}
	now := time.Now()
	if now.Sub(g.token.Obtained) >= freshAge {
		g.strikes = 0
	} else {
		g.strikes++
	}
	if g.strikes > 1 {
		// Fresh tokens are refused one after the other: two instances whose tokens revoke each other, or a server that
		// answers 401 for another reason. Either way, slower.
		if pause := now.Add(backoff(g.strikes-1, time.Second, freshAge)); pause.After(g.notBefore) {
			g.notBefore = pause
		}
	}
	g.token = Token{serial: g.token.serial}
	g.lost = reasonRefused
	g.wakeKeeper()
	return true
}

// refused takes a refusal of a request that was sent with t. It reports whether another token is worth a try: not where the
// current one was fetched for such a request a moment ago, and refused as well.
func (g *grant) refused(t Token) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token.serial == t.serial && !g.token.IsZero() && g.doubted && time.Since(t.Obtained) < freshAge {
		return false
	}
	g.drop(t)
	return true
}

// refusedAgain notes that a request was refused with the token that was fetched for it. The token stays: it may be good
// for other requests, since servers say 401 for more than tokens.
func (g *grant) refusedAgain(t Token) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token.serial == t.serial {
		g.doubted = true
	}
}

func (g *grant) status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	skew, _ := g.skew.seen()
	algorithm := ""
	if g.accepted != nil {
		algorithm = g.accepted.Algorithm()
	}
	return Status{
		Payer:         g.registration.Payer,
		Payers:        slices.Sorted(maps.Keys(g.payers)),
		RefreshAt:     g.refreshAt,
		Kid:           g.kid,
		Algorithm:     algorithm,
		LastFailure:   g.last,
		FailedAt:      g.lastAt,
		TokenHost:     g.host,
		Live:          g.token.live(time.Now()),
		Obtained:      g.token.Obtained,
		Expires:       g.token.Expires,
		Failure:       g.failure,
		ClockSkew:     skew,
		ScopesGranted: slices.Clone(g.token.Scopes),
	}
}
