package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ingestd/internal/config"
)

// How many wrong tokens an address may send: some at once, and then one every few seconds.
const (
	guessInterval = 5 * time.Second
	guessBurst    = 10
	// maxGuessers bounds how many addresses are remembered; further ones share one allowance.
	maxGuessers = 1000
)

// Guard lets requests pass that an operator sent, by hand or by a program, and not a foreign page in the operator's browser.
type Guard struct {
	token [sha256.Size]byte
	open  bool // there is no token: the listener is a loopback one
	cross *http.CrossOriginProtection

	mu       sync.Mutex
	guessers map[netip.Prefix]*rate.Limiter
	others   *rate.Limiter
}

// NewGuard returns the guard of a listener with that admin token; empty on a loopback listener only.
func NewGuard(token string) *Guard {
	return &Guard{
		token: sha256.Sum256([]byte(token)), open: token == "", cross: http.NewCrossOriginProtection(),
		guessers: make(map[netip.Prefix]*rate.Limiter), others: newGuesses(),
	}
}

func newGuesses() *rate.Limiter { return rate.NewLimiter(rate.Every(guessInterval), guessBurst) }

// Wrap guards a handler of JSON.
func (g *Guard) Wrap(next http.Handler) http.Handler {
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

// Open reports whether there is no token: whoever reaches the listener, which is a loopback one, may use it.
func (g *Guard) Open() bool { return g.open }

// CheckHost refuses a request under a name that is not loopback's where there is no token: a page whose name was made to resolve to
// this host would be of the same origin (DNS rebinding), and its name gives it away.
func (g *Guard) CheckHost(r *http.Request) *Problem {
	if !g.open || isLoopbackHost(r.Host) {
		return nil
	}
	return &Problem{
		Code: "wrong_host", Message: "without admin.token, requests are taken under a loopback name only",
		Hint: "ask http://127.0.0.1 or localhost, or set admin.token", Status: http.StatusForbidden,
	}
}

// CheckOrigin refuses a request that changes something and that a browser sends for a page of another origin.
func (g *Guard) CheckOrigin(r *http.Request) *Problem {
	if err := g.cross.Check(r); err != nil {
		return &Problem{Code: "cross_origin", Message: "requests that change something are not taken from web pages", Status: http.StatusForbidden}
	}
	return nil
}

// refuse says why a request may not pass; nil where it may.
func (g *Guard) refuse(r *http.Request) *Problem {
	if p := g.CheckHost(r); p != nil {
		return p
	}
	if p := g.CheckBearer(r); p != nil {
		return p
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if p := g.CheckOrigin(r); p != nil {
		return p
	}
	// What a page may send without asking first has another type.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return &Problem{
			Code: "content_type", Message: "expected Content-Type: application/json", Status: http.StatusUnsupportedMediaType,
		}
	}
	return nil
}

// CheckBearer is CheckToken of the token in the request's header.
func (g *Guard) CheckBearer(r *http.Request) *Problem {
	header := r.Header.Get("Authorization")
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		token = ""
	}
	return g.check(r.RemoteAddr, token, header != "")
}

// CheckToken compares a token that an address sent, in a time that does not depend on it. An address that has sent too many wrong
// ones is not told whether the next is right, until it has waited. Where there is no token, any will do.
func (g *Guard) CheckToken(remote, token string) *Problem { return g.check(remote, token, true) }

// check is CheckToken. What is no guess does not count: any page in an operator's browser can send requests without a token, and
// would lock the operator out.
func (g *Guard) check(remote, token string, isGuess bool) *Problem {
	if g.open {
		return nil
	}
	if !isGuess {
		return unauthorized()
	}
	got := sha256.Sum256([]byte(token))
	right := subtle.ConstantTimeCompare(g.token[:], got[:]) == 1

	g.mu.Lock()
	defer g.mu.Unlock()
	guesses := g.guesses(remote)
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
	return unauthorized()
}

func unauthorized() *Problem {
	return &Problem{
		Code: "unauthorized", Message: "the admin token is required", Status: http.StatusUnauthorized,
		Hint: "send it as Authorization: Bearer …; commands take it from INGESTD_ADMIN_TOKEN",
	}
}

// guesses is the allowance of an address; of IPv6, that of its network of 64 bits, all of which one host may have.
func (g *Guard) guesses(remote string) *rate.Limiter {
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

// isLoopbackHost reports whether a Host header names this host itself. It is read as what it is by RFC 9110 section 7.2, the host and
// port of a URI: what is neither is refused, and so is a header from which net/url takes something else than the host.
func isLoopbackHost(host string) bool {
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host {
		return false
	}
	return config.IsLoopbackHost(u.Hostname())
}
