package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Login is who signs in, and where.
type Login struct{ Host, Port, User string }

// SSLMode tells libpq's name for how c treats TLS, which pgx has turned into the attempts that it makes at each host.
func SSLMode(c *pgx.ConnConfig) string {
	others := func(encrypted bool) bool {
		return slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool {
			return f.Host == c.Host && f.Port == c.Port && (f.TLSConfig != nil) == encrypted
		})
	}
	switch t := c.TLSConfig; {
	case t == nil && others(true):
		return "allow"
	case t == nil:
		return "disable"
	case others(false):
		return "prefer"
	case !t.InsecureSkipVerify:
		return "verify-full"
	case t.VerifyPeerCertificate != nil:
		return "verify-ca"
	}
	return "require"
}

// TLSWarning says what of a connection string lets somebody between here and Postgres read along or pose as it; empty where nothing
// does, where the host is this one, or the string is none. The mode is worth no more than verify-full on a network that others share.
func TLSWarning(url string) string {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return ""
	}
	mode := SSLMode(c)
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	if mode == "verify-full" || !slices.ContainsFunc(hosts, isRemote) {
		return ""
	}
	what := "TLS is used, but any certificate is taken"
	switch mode {
	case "disable":
		what = "resources and passwords cross the network in the clear"
	case "allow", "prefer":
		what = "whoever is in between can switch TLS off"
	case "verify-ca":
		what = "TLS is used, but any certificate of the authority is taken, whatever its name"
	}
	return fmt.Sprintf("sslmode=%s: %s: set sslmode=verify-full, and sslrootcert where the authority is not a public one", mode, what)
}

// isRemote reports whether a host is another one than this.
func isRemote(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// signIn makes each new connection of a pool ask for the password of its login.
func signIn(config *pgxpool.Config, o Options) error {
	if o.Password == nil {
		return nil
	}
	c := config.ConnConfig
	if o.VerifyServer {
		if mode := SSLMode(c); mode != "verify-full" {
			return fmt.Errorf("database.auth: rds-iam needs sslmode=verify-full, and not %s: the token would be sent to whoever answers", mode)
		}
		if slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != c.Host || f.Port != c.Port }) {
			return errors.New("database.auth: rds-iam needs a URL with one host: the token is signed for it")
		}
	}
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error { return askPassword(ctx, o, c) }
	return nil
}

func askPassword(ctx context.Context, o Options, c *pgx.ConnConfig) error {
	password, err := o.Password(ctx, Login{Host: c.Host, Port: strconv.Itoa(int(c.Port)), User: c.User})
	if err != nil {
		return fmt.Errorf("sign in to Postgres: %w", err)
	}
	c.Password = password
	return nil
}
