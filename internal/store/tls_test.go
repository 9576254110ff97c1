package store_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestOpen_trusts_no_other_server(t *testing.T) {
	t.Parallel()
	server := testpg.NewSecured(t)
	if err := server.Exec(t.Context(), `CREATE ROLE app LOGIN PASSWORD 'first'; GRANT CREATE, TEMPORARY ON DATABASE ingestd TO app`); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	password := func(_ context.Context, l store.Login) (string, error) {
		asked.Add(1)
		if l.User != "app" || l.Port != "5432" {
			return "", errors.New("asked for another login: " + l.User + " " + l.Port)
		}
		return "first", nil
	}
	for _, tt := range []struct{ name, host, mode, ca, want string }{
		{"the name and the authority are right", server.Host, "verify-full", server.CA, ""},
		{"another name", server.Other, "verify-full", server.CA, "certificate is valid for " + server.Host},
		{"another name, which verify-ca does not look at", server.Other, "verify-ca", server.CA, ""},
		{"an authority that nobody trusts", server.Host, "verify-full", "", "certificate signed by unknown authority"},
		{"no TLS", server.Host, "disable", "", "no encryption"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := server.URL(tt.host, "app", tt.mode)
			if tt.ca == "" {
				at = strings.Replace(at, "sslrootcert=", "application_name=", 1)
			}
			s, err := store.Open(t.Context(), store.Options{URL: at, Password: password})
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}

	// Migrations and the pools ask for each connection: the password is exchanged in between.
	before := asked.Load()
	s, err := store.Open(t.Context(), store.Options{URL: server.URL(server.Host, "app", "verify-full"), Password: password, VerifyServer: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked.Load() == before {
		t.Error("nobody was asked for the password")
	}
	if c, err := s.SessionConfig(t.Context()); err != nil || c.Password != "first" || store.SSLMode(c) != "verify-full" {
		t.Errorf("got %v, %v, want the password of the moment", c, err)
	}
}

func TestOpen_sends_a_token_to_a_verified_server_only(t *testing.T) {
	t.Parallel()
	password := func(context.Context, store.Login) (string, error) { return "token", nil }
	for _, tt := range []struct{ url, want string }{
		{"postgres://u@db.example/d?sslmode=require", "needs sslmode=verify-full, and not require"},
		{"postgres://u@db.example/d?sslmode=verify-ca", "not verify-ca"},
		{"postgres://u@db.example/d", "not prefer"},
		{"postgres://u@db.example/d?sslmode=disable", "not disable"},
		{"postgres://u@db1.example,db2.example/d?sslmode=verify-full", "one host"},
	} {
		s, err := store.Open(t.Context(), store.Options{URL: tt.url, Password: password, VerifyServer: true, Lazy: true})
		if err == nil {
			s.Close()
			t.Errorf("%s was taken", tt.url)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.url, err, tt.want)
		}
	}
}

func TestTLSWarning(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"postgres://u@db.example/d?sslmode=verify-full", ""},
		{"postgres://u@db.example/d?sslmode=verify-ca", "sslmode=verify-ca"},
		{"postgres://u@db.example/d?sslmode=require", "any certificate is taken"},
		{"postgres://u@db.example/d", "sslmode=prefer: whoever is in between"},
		{"postgres://u@10.0.0.1/d?sslmode=disable", "in the clear"},
		{"host=db.example user=u sslmode=allow", "sslmode=allow"},
		{"postgres://u@localhost,db.example/d", "sslmode=prefer"},
		{"postgres://u@localhost/d", ""},
		{"postgres://u@127.0.0.1/d?sslmode=disable", ""},
		{"postgres://u@[::1]/d", ""},
		{"postgres:///d?host=/run/postgresql", ""},
		{"env:DATABASE_URL", ""},
		{"embedded:/var/lib/ingestd/pg", ""},
	} {
		if got := store.TLSWarning(tt.url); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.url, got, tt.want)
		}
	}
}
