package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Resolver looks up the addresses of a host name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// addressRange is a special-purpose range of addresses (RFC 6890). The zero value stands for public addresses.
type addressRange string

const (
	rangePublic    addressRange = ""
	rangeLoopback  addressRange = "loopback"
	rangePrivate   addressRange = "private"
	rangeLinkLocal addressRange = "link-local"
	rangeShared    addressRange = "carrier-grade NAT"
	rangeSpecial   addressRange = "special-purpose"
)

var (
	sharedPrefix = netip.MustParsePrefix("100.64.0.0/10")
	// specialPrefixes hold no host that a payer could run a server on.
	specialPrefixes = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),       // this network
		netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocol assignments
		netip.MustParsePrefix("192.0.2.0/24"),    // documentation
		netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
		netip.MustParsePrefix("198.51.100.0/24"), // documentation
		netip.MustParsePrefix("203.0.113.0/24"),  // documentation
		netip.MustParsePrefix("224.0.0.0/4"),     // multicast
		netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
		netip.MustParsePrefix("::/128"),          // unspecified
		netip.MustParsePrefix("100::/64"),        // discard
		netip.MustParsePrefix("2001:db8::/32"),   // documentation
		netip.MustParsePrefix("fec0::/10"),       // site-local, deprecated
		netip.MustParsePrefix("ff00::/8"),        // multicast
	}
	// embeddingPrefixes carry an IPv4 address, at the byte that follows the prefix, to which a gateway may translate.
	embeddingPrefixes = []struct {
		prefix netip.Prefix
		at     int
	}{
		{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64
		{netip.MustParsePrefix("64:ff9b:1::/96"), 12}, // NAT64, local use
		{netip.MustParsePrefix("2002::/16"), 2},       // 6to4
		{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, deprecated
	}
)

// rangeOf says in which special-purpose range an address lies.
func rangeOf(addr netip.Addr) addressRange {
	addr = addr.Unmap().WithZone("")
	switch {
	case addr.IsLoopback():
		return rangeLoopback
	case addr.IsPrivate(): // RFC 1918 and unique-local fc00::/7
		return rangePrivate
	case addr.IsLinkLocalUnicast(), addr.IsLinkLocalMulticast(), addr.IsInterfaceLocalMulticast():
		return rangeLinkLocal
	case sharedPrefix.Contains(addr):
		return rangeShared
	}
	for _, prefix := range specialPrefixes {
		if prefix.Contains(addr) {
			return rangeSpecial
		}
	}
	if addr.Is6() {
		bytes := addr.As16()
		for _, embedding := range embeddingPrefixes {
			if embedding.prefix.Contains(addr) {
				return rangeOf(netip.AddrFrom4([4]byte(bytes[embedding.at:])))
			}
		}
	}
	return rangePublic
}

// guard decides which addresses may be dialled for which host.
type guard struct {
	base     string          // host of the FHIR base
	trusted  map[string]bool // hosts that the configuration names, the base among them
	resolver Resolver
	dialer   net.Dialer

	mu        sync.Mutex
	baseKnown map[addressRange]bool // ranges that the base's addresses lie in
	baseAsked time.Time             // when they were looked up
}

// baseRangesLife is how long the ranges of the FHIR base's addresses are taken for known.
const baseRangesLife = time.Minute

// dial connects to address, host:port, after checking each IP address that is tried for it.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", address, err)
	}
	host = normalHost(host)
	dialer := g.dialer
	dialer.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		addrPort, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("read the address to dial: %w", err)
		}
		return g.check(ctx, host, addrPort.Addr())
	}
	return dialer.DialContext(ctx, network, address) //nolint:wrapcheck // explain says what a failed dial means
}

// check refuses addr for host with a *refusal, or returns nil.
func (g *guard) check(ctx context.Context, host string, addr netip.Addr) error {
	found := rangeOf(addr)
	if found == rangePublic {
		if host == "localhost" { // http is allowed to it, so it has to be what its name says
			return &refusal{host: host, reason: "localhost resolves to an address that is not loopback"}
		}
		return nil
	}
	literal, literalErr := netip.ParseAddr(host)
	switch {
	case g.trusted[host] && found != rangeLinkLocal:
		return nil
	case g.trusted[host] && literalErr == nil && literal.Unmap() == addr.Unmap():
		return nil // a link-local address that the configuration names as such
	case found == rangeLinkLocal, found == rangeSpecial:
	case g.baseRanges(ctx)[found]:
		return nil
	}
	return &refusal{host: host, found: found, reason: fmt.Sprintf("%s is a %s address", addr, found)}
}

// baseRanges returns the ranges that the addresses of the FHIR base lie in: a payer inside the operator's own network may
// name other hosts of that network.
func (g *guard) baseRanges(ctx context.Context) map[addressRange]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.baseKnown != nil && time.Since(g.baseAsked) < baseRangesLife {
		return g.baseKnown
	}
	ranges := make(map[addressRange]bool)
	if addr, err := netip.ParseAddr(g.base); err == nil {
		ranges[rangeOf(addr)] = true
	} else if g.base != "" {
		addrs, err := g.resolver.LookupNetIP(ctx, "ip", g.base)
		if err != nil {
			return ranges // nothing known, nothing allowed; asked again the next time
		}
		for _, addr := range addrs {
			ranges[rangeOf(addr)] = true
		}
	}
	g.baseKnown, g.baseAsked = ranges, time.Now()
	return ranges
}

// refusal says that an address must not be dialled.
type refusal struct {
	host   string
	found  addressRange
	reason string
}

func (r *refusal) Error() string { return "refused to connect to " + r.host + ": " + r.reason }

// normalHost is the form in which hosts are compared: lower case, without brackets, zone or a final dot.
func normalHost(host string) string {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	host = strings.TrimSuffix(host, ".") // before all else: an address with a final dot is that address too
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().WithZone("").String()
	}
	return strings.ToLower(host)
}

// isLoopbackHost reports whether a URL's host is loopback by its mere name: plain http is for those only.
func isLoopbackHost(host string) bool {
	host = normalHost(host)
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
