package ops

import (
	"net/http/httptest"
	"net/netip"
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
	for _, seed := range []string{"localhost:8080", "127.0.0.1", "[::1]:80", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", ":", "[", "LOCALHOST."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !isLoopbackHost(host) {
			return
		}
		name := strings.ToLower(host)
		if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.HasSuffix(name, "]") && (strings.Count(name, ":") == 1 || strings.HasPrefix(name, "[")) {
			name = name[:i]
		}
		name = strings.Trim(name, "[]")
		if addr, err := netip.ParseAddr(name); err == nil && addr.IsLoopback() {
			return
		}
		if strings.TrimSuffix(name, ".") != "localhost" {
			t.Errorf("%q passes for this host", host)
		}
	})
}

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
