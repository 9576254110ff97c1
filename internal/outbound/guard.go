package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"ingestd/internal/config"
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
	rangeMetadata  addressRange = "cloud metadata"
)

var (
	sharedPrefix = netip.MustParsePrefix("100.64.0.0/10")
	// metadataAddresses are those of clouds that are not link-local: a network that holds a FHIR base may hold them, too.
	metadataAddresses = []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd00:ec2::23"), // AWS: instances, containers
		netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
		netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	}
	// specialPrefixes hold no host that a payer could run a server on.
	specialPrefixes = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),       // this network
		netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocol assignments
		netip.MustParsePrefix("192.0.2.0/24"),    // documentation
		netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays, deprecated
		netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
		netip.MustParsePrefix("198.51.100.0/24"), // documentation
		netip.MustParsePrefix("203.0.113.0/24"),  // documentation
		netip.MustParsePrefix("224.0.0.0/4"),     // multicast
		netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
		netip.MustParsePrefix("::/128"),          // unspecified
		netip.MustParsePrefix("100::/64"),        // discard
		netip.MustParsePrefix("100:0:0:1::/64"),  // dummy
		netip.MustParsePrefix("2001::/23"),       // IETF protocol assignments, Teredo among them
		netip.MustParsePrefix("2001:db8::/32"),   // documentation
		netip.MustParsePrefix("3fff::/20"),       // documentation
		netip.MustParsePrefix("5f00::/16"),       // segment routing
		netip.MustParsePrefix("fec0::/10"),       // site-local, deprecated
		netip.MustParsePrefix("ff00::/8"),        // multicast
	}
	// embeddingPrefixes carry an IPv4 address, from that byte on, to which a gateway may translate.
	embeddingPrefixes = []struct {
		prefix netip.Prefix
		at     int
	}{
		{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
		{netip.MustParsePrefix("64:ff9b:1::/48"), 12},  // NAT64, local use: prefixes of 96 bits; what ends in zeros reads as 0.0.0.0
		{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
		{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated (SIIT)
		{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible, deprecated
	}
)

// rangeOf says in which special-purpose range an address lies.
func rangeOf(addr netip.Addr) addressRange {
	addr = addr.Unmap().WithZone("")
	switch {
	case slices.Contains(metadataAddresses, addr):
		return rangeMetadata
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
	trusted map[string]bool // hosts that the configuration names, the base among them
	dialer  net.Dialer

	neighbours neighbours
}

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
	case g.trusted[host] && found != rangeLinkLocal && found != rangeMetadata:
		return nil
	case g.trusted[host] && literalErr == nil && literal.Unmap() == addr.Unmap():
		return nil // one that the configuration names as such
	case found == rangeLinkLocal, found == rangeMetadata, found == rangeSpecial:
	default:
		if among, err := g.neighbours.holds(ctx, found); among || err != nil {
			return err
		}
	}
	return &refusal{host: host, found: found, reason: fmt.Sprintf("%s is a %s address", addr, found)}
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
	return config.ComparableHost(host)
}
