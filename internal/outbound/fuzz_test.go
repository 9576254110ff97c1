package outbound

import (
	"net/netip"
	"net/url"
	"testing"

	"ingestd/internal/config"
)

// FuzzHosts proves that however an address or a loopback name is written, it is judged as the address that it is.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{
		"127.0.0.1", "[::1]", "LOCALHOST.", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "0x7f.1", "2130706433", "127.1", "fe80::1%eth0", "",
		"localhost.evil.example", "\u2100", "127.0.0.1\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		once := normalHost(host)
		loopback := config.IsLoopbackHost(once)
		addr, err := netip.ParseAddr(once)
		if err == nil && addr.Is4In6() {
			t.Errorf("%q is compared as %s, which is the same address as %s", host, once, addr.Unmap())
		}
		if err == nil && loopback != (rangeOf(addr) == rangeLoopback && addr.IsLoopback()) {
			t.Errorf("%q: loopback by name is %t, by address %s", host, loopback, rangeOf(addr))
		}
		if loopback && err != nil && once != "localhost" {
			t.Errorf("%q counts as loopback", host)
		}
		if u, err := url.Parse("http://" + host + "/"); err == nil && checkScheme(u) == nil && !config.IsLoopbackHost(normalHost(u.Hostname())) {
			t.Errorf("plain http to %q is allowed", host)
		}
	})
}
