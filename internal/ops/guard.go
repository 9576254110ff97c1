package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many wrong tokens an address may send: some at once, and then one every few seconds.
const (
	guessInterval = 5 * time.Second
	guessBurst    = 10
	// maxGuessers bounds how many addresses are remembered; further ones share one allowance.
	maxGuessers = 1000
)

// guard lets requests pass that an operator sent, by hand or by a program, and not a page in the operator's browser.
type guard struct {
	token [sha256.Size]byte
	open  bool // there is no token: the listener is a loopback one
	cross *http.CrossOriginProtection

	mu       sync.Mutex
	guessers map[netip.Prefix]*rate.Limiter
	others   *rate.Limiter
}

func newGuard(token string) *guard {
	return &guard{
		token: sha256.Sum256([]byte(token)), open: token == "", cross: http.NewCrossOriginProtection(),
		guessers: make(map[netip.Prefix]*rate.Limiter), others: newGuesses(),
	}
}

func newGuesses() *rate.Limiter { return rate.NewLimiter(rate.Every(guessInterval), guessBurst) }

// wrap guards a handler.
func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := g.refuse(r); p != nil {
			if p.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="ingestd"`)
			}
			if p.Status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "5")
			}
			writeJSON(w, p.Status, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse says why a request may not pass; nil where it may.
func (g *guard) refuse(r *http.Request) *Problem {
	if g.open {
		// A page whose name was made to resolve to this host would be of the same origin (DNS rebinding): its name gives it away.
		if !isLoopbackHost(r.Host) {
			return &Problem{
				Code: "wrong_host", Message: "without admin.token, requests are taken under a loopback name only",
				Hint: "ask http://127.0.0.1 or localhost, or set admin.token", Status: http.StatusForbidden,
			}
		}
	} else if p := g.checkToken(r); p != nil {
		return p
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if err := g.cross.Check(r); err != nil {
		return &Problem{Code: "cross_origin", Message: "requests that change something are not taken from web pages", Status: http.StatusForbidden}
	}
	// What a page may send without asking first has another type.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return &Problem{
			Code: "content_type", Message: "expected Content-Type: application/json", Status: http.StatusUnsupportedMediaType,
		}
	}
	return nil
}

// checkToken compares the token in a time that does not depend on it. An address that has sent too many wrong ones is not told
// whether the next is right, until it has waited.
func (g *guard) checkToken(r *http.Request) *Problem {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got := sha256.Sum256([]byte(token))
	right := subtle.ConstantTimeCompare(g.token[:], got[:]) == 1 && ok

	g.mu.Lock()
	defer g.mu.Unlock()
	guesses := g.guesses(r.RemoteAddr)
	if guesses.Tokens() < 1 {
		return &Problem{
			Code: "too_many_attempts", Message: "too many requests without the right token from this address",
			Hint: "wait some seconds", Status: http.StatusTooManyRequests,
		}
	}
	if right {
		return nil
	}
	guesses.Allow()
	return &Problem{
		Code: "unauthorized", Message: "the admin token is required", Status: http.StatusUnauthorized,
		Hint: "send it as Authorization: Bearer …; commands take it from INGESTD_ADMIN_TOKEN",
	}
}

// guesses is the allowance of an address; of IPv6, that of its network of 64 bits, all of which one host may have.
func (g *guard) guesses(remote string) *rate.Limiter {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return g.others
	}
	bits := 64
	address := at.Addr().Unmap().WithZone("")
	if address.Is4() {
		bits = 32
	}
	network, err := address.Prefix(bits)
	if err != nil {
		return g.others
	}
	if known, ok := g.guessers[network]; ok {
		return known
	}
	if len(g.guessers) >= maxGuessers {
		for network, limiter := range g.guessers {
			if limiter.Tokens() >= guessBurst {
				delete(g.guessers, network)
			}
		}
		if len(g.guessers) >= maxGuessers {
			return g.others
		}
	}
	limiter := newGuesses()
	g.guessers[network] = limiter
	return limiter
}

// isLoopbackHost reports whether a Host header names this host itself.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || err == nil && ip.IsLoopback()
}
