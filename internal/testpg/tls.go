package testpg

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store/embedded"
)

// Secured is a server of its own that is reached by TLS alone, with passwords, as one in a network is.
type Secured struct {
	// Host is the address in its certificate, Other one at which it answers, too, and which is not.
	Host, Other string
	// CA is the file of the authority that signed the certificate.
	CA string

	t     testing.TB
	admin string
}

// NewSecured starts a server, which is stopped when the test ends.
func NewSecured(t testing.TB) *Secured {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "testpg-tls-") //nolint:usetesting // the server's user could not reach the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The port is always the same; an address of the loopback network that nobody else picks takes its place.
	var b [2]byte
	_, _ = rand.Read(b[:])
	s := &Secured{t: t, Host: fmt.Sprintf("127.%d.%d.1", b[0]|1, b[1]), Other: fmt.Sprintf("127.%d.%d.2", b[0]|1, b[1])}
	s.CA = s.certify(dir)
	hba := filepath.Join(dir, "pg_hba.conf")
	s.write(hba, "local all all trust\n"+ //nolint:dupword // database and user
		"hostssl all all 127.0.0.0/8 scram-sha-256\n") //nolint:dupword // likewise
	server, err := embedded.Start(ctx, embedded.Options{Dir: filepath.Join(dir, "pg"), Settings: map[string]string{
		"fsync": "off", "synchronous_commit": "off", "listen_addresses": s.Host + "," + s.Other, "hba_file": hba, "shared_buffers": "32MB",
		"ssl": "on", "ssl_cert_file": filepath.Join(dir, "server.pem"), "ssl_key_file": filepath.Join(dir, "server.key"),
	}})
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Errorf("testpg: %v", err)
		}
	})
	s.admin = server.URL()
	return s
}

// URL is the connection string of a user at one of the server's addresses.
func (s *Secured) URL(host, user, sslmode string) string {
	query := url.Values{"sslmode": {sslmode}}
	if sslmode == "verify-full" || sslmode == "verify-ca" {
		query.Set("sslrootcert", s.CA)
	}
	return (&url.URL{Scheme: "postgres", User: url.User(user), Host: host + ":5432", Path: "/ingestd", RawQuery: query.Encode()}).String()
}

// Exec runs a statement as the superuser, past TLS and passwords.
func (s *Secured) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("execute: %w", err)
	}
	return nil
}

// Count runs a query that yields a number, as the superuser.
func (s *Secured) Count(ctx context.Context, sql string) (n int, err error) {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// certify makes an authority and the server's certificate, and returns the file of the first.
func (s *Secured) certify(dir string) string {
	s.t.Helper()
	sign := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			s.t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			s.t.Fatal(err)
		}
		return key
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority of this test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	authority := filepath.Join(dir, "ca.pem")
	s.write(authority, string(sign(ca, ca, caKey, caKey)))
	s.write(filepath.Join(dir, "server.pem"), string(sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.ParseIP(s.Host)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, key, caKey)))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(filepath.Join(dir, "server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return authority
}

// write writes a file for the server's user alone, and what is no secret for all.
func (s *Secured) write(path, text string) {
	s.t.Helper()
	mode := os.FileMode(0o644)
	if filepath.Ext(path) == ".key" {
		mode = 0o600
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		s.t.Fatal(err)
	}
}
