package config

import (
	"net/netip"
	"strings"
)

// ComparableHost is the form in which the names of hosts are compared: without a final dot, and ASCII in lower case. All but A to Z
// stays as it is: Unicode's small letter of İ is i, and net/http asks for another host (IDNA).
func ComparableHost(host string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, strings.TrimSuffix(host, "."))
}

// IsLoopbackHost reports whether the host of a URL, without its port, is loopback by its mere name: plain http is for those alone. Nothing
// is looked up.
func IsLoopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host) // with a final dot it is a name, to be looked up
	return ComparableHost(host) == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
