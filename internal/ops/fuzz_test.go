package ops

import (
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// FuzzDecode proves that a body of the API is taken as it is meant, or refused as the caller's mistake.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"payer":"acme","full":true}`, `{}`, ``, `{"payer":1}`, `{"x":1}`, `{}{}`, `[`, strings.Repeat("[", 20_000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest("POST", "/api/v1/exports", strings.NewReader(text))
		var body startRequest
		if err := decode(r, &body); err != nil {
			if p := Explain(err); p.Status != 400 {
				t.Errorf("%q: got status %d, %v", text, p.Status, err)
			}
		}
	})
}

// FuzzLoopbackHost proves that no Host header passes for this host but its name and its addresses.
func FuzzLoopbackHost(f *testing.F) {
	for _, seed := range []string{"localhost:8080", "127.0.0.1", "[::1]:80", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "localhost:x", "::1", "", ":", "[", "[::1", "::1]", "[localhost]", "LOCALHOST."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !isLoopbackHost(host) {
			return
		}
		parts := hostAndPort.FindStringSubmatch(host)
		if parts == nil {
			t.Fatalf("%q passes for this host, but is not a host", host)
		}
		if addr, err := netip.ParseAddr(strings.Trim(parts[1], "[]")); (err != nil || !addr.IsLoopback()) && !localhost.MatchString(parts[1]) {
			t.Errorf("%q passes for this host", host)
		}
	})
}

// What a Host header is, and the name of this host in it (RFC 3986 section 3.2.2, and 3.2.3 for the port).
var (
	hostAndPort = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9.-]+)(?::[0-9]*)?$`)
	localhost   = regexp.MustCompile(`^(?i:localhost)\.?$`)
)

// FuzzGuesses proves that every address of a caller has an allowance.
func FuzzGuesses(f *testing.F) {
	for _, seed := range []string{"192.0.2.1:80", "[2001:db8::1%eth0]:80", "[::ffff:192.0.2.1]:80", "x", ""} {
		f.Add(seed)
	}
	g := NewGuard("token")
	f.Fuzz(func(t *testing.T, remote string) {
		if g.guesses(remote) == nil || len(g.guessers) > maxGuessers {
			t.Errorf("%q: %d addresses are remembered", remote, len(g.guessers))
		}
	})
}
