package page

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// sessionLife is how long a sign-in holds, whatever is done meanwhile.
	sessionLife = 12 * time.Hour
	// keyRounds make it slow to guess the admin token from a cookie that was stolen.
	keyRounds = 600_000
	keyBytes  = 32
)

// session is a sign-in.
type session struct {
	ID      string    `json:"i"`
	Name    string    `json:"n"`
	Expires time.Time `json:"e"`
}

func (s session) isZero() bool { return s.ID == "" }

// sessions gives and knows sessions. They stand in signed cookies, and the key follows from the admin token, so that one instance
// behind a load balancer knows what another has given, and a new token ends all of them. Without a token, each process has a key of
// its own.
type sessions struct {
	key func() []byte

	mu    sync.Mutex
	ended map[string]time.Time // those that were signed out, until they would have ended by themselves
}

func newSessions(token string) *sessions {
	return &sessions{ended: make(map[string]time.Time), key: sync.OnceValue(func() []byte {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails
		if token == "" {
			return key
		}
		derived, err := pbkdf2.Key(sha256.New, token, []byte("ingestd status page session"), keyRounds, keyBytes)
		if err != nil {
			return key // never: the lengths are right
		}
		return derived
	})}
}

func (s *sessions) sum(purpose, text string) []byte {
	mac := hmac.New(sha256.New, s.key())
	_, _ = mac.Write([]byte(purpose + "\n" + text)) // never fails
	return mac.Sum(nil)
}

// csrf is what the forms of a session carry.
func (s *sessions) csrf(of session) string {
	return base64.RawURLEncoding.EncodeToString(s.sum("form", of.ID))
}

// isCSRF compares what a form carries, in a time that does not depend on it.
func (s *sessions) isCSRF(of session, got string) bool {
	return hmac.Equal([]byte(s.csrf(of)), []byte(got))
}

// give signs somebody in.
func (s *sessions) give(w http.ResponseWriter, r *http.Request, name string) session {
	given := session{ID: rand.Text(), Name: name, Expires: time.Now().Add(sessionLife).Truncate(time.Second)}
	s.setCookie(w, r, s.value(given), int(sessionLife.Seconds()))
	return given
}

// value is a session as it stands in a cookie: what it says, and the sum that nobody else can make.
func (s *sessions) value(of session) string {
	payload, err := json.Marshal(of)
	if err != nil {
		return "" // never: it is text and a time
	}
	text := base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(s.sum("session", text))
}

// of returns the session that a request belongs to; zero where there is none.
func (s *sessions) of(r *http.Request) session {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return session{}
	}
	text, sum, _ := strings.Cut(cookie.Value, ".")
	got, err := base64.RawURLEncoding.DecodeString(sum)
	if err != nil || !hmac.Equal(got, s.sum("session", text)) {
		return session{}
	}
	var is session
	payload, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(payload, &is) != nil || !time.Now().Before(is.Expires) {
		return session{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ended := s.ended[is.ID]; ended {
		return session{}
	}
	return is
}

// end signs somebody out.
func (s *sessions) end(w http.ResponseWriter, r *http.Request, is session) {
	s.mu.Lock()
	now := time.Now()
	for id, expires := range s.ended {
		if now.After(expires) {
			delete(s.ended, id)
		}
	}
	s.ended[is.ID] = is.Expires
	s.mu.Unlock()
	s.setCookie(w, r, "", -1)
}

func (s *sessions) setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure is set wherever the browser speaks TLS
		Name: cookieName(r), Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: isSecure(r),
	})
}

// isSecure reports whether the browser speaks TLS: with this listener, or with a proxy that says so. Who says so without a proxy
// gets a cookie that is kept more strictly.
func isSecure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// cookieName holds the port, because cookies do not know ports, and an operator may have tunnels to several daemons. With TLS, the
// prefix keeps other hosts of the domain from setting it.
func cookieName(r *http.Request) string {
	name := "ingestd-session"
	if _, port, err := net.SplitHostPort(r.Host); err == nil && port != "" {
		name += "-" + port
	}
	if isSecure(r) {
		name = "__Host-" + name
	}
	return name
}
