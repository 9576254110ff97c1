package outbound

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"ingestd/internal/config"
)

func TestRangeOf(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]addressRange{
		"8.8.8.8": rangePublic, "2606:4700::1": rangePublic, "172.32.0.1": rangePublic, "100.128.0.1": rangePublic,
		"127.0.0.1": rangeLoopback, "127.255.0.9": rangeLoopback, "::1": rangeLoopback, "::ffff:127.0.0.1": rangeLoopback,
		"10.1.2.3": rangePrivate, "172.16.0.1": rangePrivate, "192.168.1.1": rangePrivate, "fd00::1": rangePrivate,
		"::ffff:10.0.0.1": rangePrivate, "64:ff9b::a00:1": rangePrivate, "2002:a00:1::": rangePrivate,
		"169.254.169.254": rangeLinkLocal, "fe80::1": rangeLinkLocal, "::ffff:169.254.169.254": rangeLinkLocal,
		"64:ff9b::a9fe:a9fe": rangeLinkLocal, "fe80::1%lo": rangeLinkLocal, "fd00:ec2::254": rangeMetadata,
		"fd00:ec2::23": rangeMetadata, "fd20:ce::254": rangeMetadata, "100.100.100.200": rangeMetadata,
		"64:ff9b::6464:64c8": rangeMetadata,
		"100.64.0.1":         rangeShared, "0.0.0.0": rangeSpecial, "::": rangeSpecial, "255.255.255.255": rangeSpecial,
		"239.1.1.1": rangeSpecial, "192.0.2.1": rangeSpecial, "2001:db8::1": rangeSpecial, "ff0e::1": rangeSpecial,
		"::7f00:1": rangeLoopback, "64:ff9b::808:808": rangePublic,
		"64:ff9b:1::a00:1": rangePrivate, "64:ff9b:1:abcd::a00:1": rangePrivate, "64:ff9b:1:ffff:1:2:a9fe:a9fe": rangeLinkLocal,
		"64:ff9b:1:a00:0:100::": rangeSpecial, "64:ff9b:1:abcd::808:808": rangePublic,
		"::ffff:0:10.0.0.1": rangePrivate, "::ffff:0:169.254.169.254": rangeLinkLocal, "::ffff:0:127.0.0.1": rangeLoopback,
		"2001::a00:1": rangeSpecial, "2001:10::1": rangeSpecial, "2001:200::1": rangePublic, "3fff::1": rangeSpecial,
		"5f00::1": rangeSpecial, "100:0:0:1::1": rangeSpecial, "192.88.99.1": rangeSpecial, "192.88.98.1": rangePublic,
	} {
		if got := rangeOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
}

// zone is a DNS server on loopback whose answers are the test's. Each question moves it to the next answer.
type zone struct {
	addresses map[string][]string
	asked     atomic.Int64
}

// resolver starts the zone and returns a resolver that asks it.
func (z *zone) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := z.answer(buffer[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answer builds a reply by hand (RFC 1035, section 4): the question repeated, and at most one A record.
func (z *zone) answer(question []byte) []byte {
	const header = 12
	var labels []string
	end := header
	for end < len(question) && question[end] != 0 {
		length := int(question[end])
		if end+1+length > len(question) {
			return nil
		}
		labels = append(labels, string(question[end+1:end+1+length]))
		end += 1 + length
	}
	end += 5 // the root label, type and class
	if end > len(question) {
		return nil
	}
	answers, known := z.addresses[strings.Join(labels, ".")]
	reply := append([]byte{}, question[:2]...)
	reply = append(reply, 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0) // an authoritative answer, one question
	reply = append(reply, question[header:end]...)
	const typeA = 1
	switch {
	case !known:
		reply[3] |= 3 // no such name
	case question[end-3] == typeA:
		n := z.asked.Add(1) - 1
		addr := netip.MustParseAddr(answers[int(n)%len(answers)]).As4()
		reply[7] = 1
		reply = append(reply, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, addr[:]...)
	}
	return reply
}

func TestMAN4_privateAddressesAreRefusedWhenTheyAreDialled(t *testing.T) {
	t.Parallel()
	z := &zone{addresses: map[string][]string{
		"payer.example": {"93.184.216.34"}, "inside.example": {"127.0.0.1"}, "metadata.example": {"169.254.169.254"},
	}}
	resolver := z.resolver(t)
	for _, test := range []struct{ base, target, want string }{
		{"https://payer.example", "https://10.0.0.1/", CodeAddressRefused},
		{"https://payer.example", "https://[::ffff:127.0.0.1]/", CodeAddressRefused},
		{"https://payer.example", "https://[fd00::1]/", CodeAddressRefused},
		{"https://payer.example", "http://127.0.0.1:1/", CodeAddressRefused},
		{"https://payer.example", "https://inside.example/", CodeAddressRefused},
		{"https://payer.example", "https://metadata.example/", CodeAddressRefused},
		{"https://payer.example", "https://169.254.169.254/", CodeAddressRefused},
		{"https://127.0.0.1:1/fhir", "https://169.254.169.254/", CodeAddressRefused},
		{"https://127.0.0.1:1/fhir", "https://10.0.0.1/", CodeAddressRefused},
		{"https://10.0.0.1/fhir", "https://[fd00:ec2::254]/", CodeAddressRefused},
		{"https://[fd00::1]/fhir", "https://[fd00:ec2::254]/", CodeAddressRefused},
		{"https://100.64.0.1/fhir", "https://100.100.100.200/", CodeAddressRefused},
		{"https://nowhere.example", "https://nowhere.example/", CodeDNS},
		// The base lies on loopback itself, so that other hosts there may be named; nobody listens.
		{"https://127.0.0.1:1/fhir", "https://127.0.0.3:1/", CodeRefused},
	} {
		_, err := get(t, test.target, Options{FHIRURL: test.base, Resolver: resolver})
		e := wantCode(t, err, test.want)
		if test.want == CodeAddressRefused && (!e.Permanent() || !e.Unsent || e.Hint == "") {
			t.Errorf("%s: got %+v, want a permanent refusal with a hint", test.target, e)
		}
	}
}

func TestMAN4_a_base_whose_name_leads_into_the_operators_network_opens_nothing_there(t *testing.T) {
	t.Parallel()
	reached := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer inside.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer secure.Close()
	z := &zone{addresses: map[string][]string{"payer.example": {"127.0.0.1"}}} // the payer's own name servers say so
	for base, want := range map[string]string{
		"https://payer.example:1/fhir":                                              CodeConnection, // nothing listens: it may be the base some other time
		strings.Replace(secure.URL, "127.0.0.1", "payer.example", 1):                CodeAddressRefused,
		strings.Replace(inside.URL, "http://127.0.0.1", "https://payer.example", 1): CodeAddressRefused,
	} {
		_, err := get(t, inside.URL, Options{FHIRURL: base, Resolver: z.resolver(t)})
		wantCode(t, err, want)
	}
	if reached {
		t.Error("a server of the operator's network was reached")
	}
}

func TestMAN4_a_base_in_the_operators_network_opens_it_by_its_certificate(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, asCA)
	named := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"base.internal"} }
	server := serve(t, nil, issue(t, root, named))
	z := &zone{addresses: map[string][]string{"base.internal": {"127.0.0.1"}, "inside.example": {"127.0.0.3"}}}
	base := strings.Replace(server.URL, "127.0.0.1", "base.internal", 1)
	trust := config.TLS{CAFile: file(t, root.pem())}
	_, err := get(t, "https://inside.example:1/", Options{FHIRURL: base, Resolver: z.resolver(t), TLS: trust})
	wantCode(t, err, CodeRefused) // dialled
	_, err = get(t, "https://10.0.0.1/", Options{FHIRURL: base, Resolver: z.resolver(t), TLS: trust})
	wantCode(t, err, CodeAddressRefused)
	_, err = get(t, "https://inside.example:1/", Options{FHIRURL: base, Resolver: z.resolver(t)})
	wantCode(t, err, CodeAddressRefused) // the certificate proves nothing without its authority
}

func TestMAN4_hostsThatTheConfigurationNamesMayBePrivate(t *testing.T) {
	t.Parallel()
	z := &zone{addresses: map[string][]string{"files.internal": {"127.0.0.1"}, "metadata.internal": {"169.254.169.254"}}}
	o := Options{
		FHIRURL: "https://payer.example", TrustedHosts: []string{"files.internal:443", "metadata.internal"},
		Resolver: z.resolver(t),
	}
	_, err := get(t, "https://files.internal:1/", o)
	wantCode(t, err, CodeRefused) // dialled
	_, err = get(t, "https://metadata.internal/", o)
	wantCode(t, err, CodeAddressRefused) // link-local only where it is named as an address
}

func TestFILE2_aNameThatChangesBetweenLookupsIsRefused(t *testing.T) {
	t.Parallel()
	reached := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	z := &zone{addresses: map[string][]string{"rebinding.example": {"93.184.216.34", "127.0.0.1"}}}
	resolver := z.resolver(t)
	// The first look-up, which any check before dialling would see, yields a public address.
	first, err := resolver.LookupNetIP(t.Context(), "ip4", "rebinding.example")
	if err != nil || rangeOf(first[0]) != rangePublic {
		t.Fatalf("got %v, %v, want a public address first", first, err)
	}
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	_, err = get(t, "https://rebinding.example:"+port+"/", Options{FHIRURL: "https://payer.example", Resolver: resolver})
	wantCode(t, err, CodeAddressRefused)
	if reached {
		t.Error("the private server was reached")
	}
}
