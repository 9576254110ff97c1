package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// deniedLife is how long the FHIR base is taken not to lie in a range, once that was seen.
	deniedLife = time.Minute
	// proofTimeout bounds the connections by which the base proves where it lies.
	proofTimeout = 10 * time.Second
)

// neighbours tells in which special-purpose ranges the FHIR base lies: a payer inside the operator's own network may name other hosts
// of that network. Where the base's name resolves to is the word of who runs its name servers, the payer as a rule, and so it is not
// enough: a server at such an address has to show the base's certificate.
type neighbours struct {
	base, port string
	tls        *tls.Config
	resolver   Resolver

	mu     sync.Mutex
	known  map[addressRange]bool      // proven, once and for all
	denied map[addressRange]time.Time // when it was seen that it is not so
}

// holds reports whether the base lies in a range; the error says that it cannot be told now.
func (n *neighbours) holds(ctx context.Context, in addressRange) (bool, error) {
	if addr, err := netip.ParseAddr(n.base); err == nil {
		return rangeOf(addr) == in, nil
	}
	if n.base == "localhost" { // which no name server decides
		return in == rangeLoopback, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[in] || time.Since(n.denied[in]) < deniedLife {
		return n.known[in], nil
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, askedKey{}, nil), proofTimeout)
	defer cancel()
	addrs, err := n.resolver.LookupNetIP(ctx, "ip", n.base)
	if err != nil {
		return false, nil // nothing known, nothing allowed; asked again the next time
	}
	silent := false
	for _, addr := range addrs {
		if rangeOf(addr) != in {
			continue
		}
		proven, isOther := n.prove(ctx, addr)
		if proven {
			n.known[in] = true
			return true, nil
		}
		silent = silent || !isOther
	}
	if silent {
		return false, errors.New("the FHIR base does not answer: whether this host is in one network with it cannot be told")
	}
	n.denied[in] = time.Now()
	return false, nil
}

// prove reports whether the server at addr shows the base's certificate, and whether one answered that is not the base: a
// certificate that has expired may still be its own.
func (n *neighbours) prove(ctx context.Context, addr netip.Addr) (proven, isOther bool) {
	port := n.port
	if port == "" {
		port = "443"
	}
	config := n.tls.Clone()
	config.ServerName = n.base
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", net.JoinHostPort(addr.Unmap().String(), port))
	if err == nil {
		_ = conn.Close() // nothing was written
		return true, false
	}
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var plain tls.RecordHeaderError
	return false, errors.As(err, &name) || errors.As(err, &unknown) || errors.As(err, &plain)
}
