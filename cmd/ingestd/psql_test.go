package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/testpg"
)

// runPsql runs 'ingestd psql' on a database with args for psql.
func runPsql(t *testing.T, databaseURL, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ingestd.yaml")
	writeTestFile(t, file, "database: {url: '"+databaseURL+"'}\npayers: []\n")
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"psql", "--config", file, "--"}, args...), strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestPsql_reads_its_input_and_prints_what_the_configured_database_answers(t *testing.T) {
	t.Parallel()
	database := testpg.New(t, nil)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runPsql(t, database, "SELECT current_database();\n", "--no-psqlrc", "-At")
	if want := strings.TrimPrefix(u.Path, "/") + "\n"; code != exitDone || stdout != want {
		t.Errorf("exit code %d, printed %q; want 0 and %q\n%s", code, stdout, want, stderr)
	}
}

func TestPsql_passes_the_exit_code_on_and_adds_nothing_to_what_psql_said(t *testing.T) {
	t.Parallel()
	code, _, stderr := runPsql(t, testpg.New(t, nil), "SELECT 1/0;\n", "--no-psqlrc", "-v", "ON_ERROR_STOP=1")
	const scriptFailed = 3 // psql's code for an error in a script
	if code != scriptFailed || !strings.Contains(stderr, "division by zero") || strings.Contains(stderr, "ingestd:") {
		t.Errorf("exit code %d, want %d; said %q", code, scriptFailed, stderr)
	}
}

func TestPsql_starts_the_embedded_database_and_stops_it_again(t *testing.T) {
	t.Parallel()
	// Not t.TempDir: the server's user must reach it.
	dir, err := os.MkdirTemp("", "psql-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	code, stdout, stderr := runPsql(t, "embedded:"+dir, "", "--no-psqlrc", "-Atc", "SHOW data_directory")
	data := strings.TrimSpace(stdout)
	if code != exitDone || !strings.HasPrefix(data, dir) {
		t.Fatalf("exit code %d, data_directory %q, want one in %s\n%s", code, data, dir, stderr)
	}
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("the server still runs: postmaster.pid: %v", err)
	}
}

// These tests change the environment, so they are not parallel.

func TestPsql_hands_the_password_over_where_other_users_cannot_see_it(t *testing.T) {
	u, err := url.Parse(testpg.New(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	u.User = url.UserPassword(query.Get("user"), `secret:47\11`)
	query.Del("user")
	u.RawQuery = query.Encode()
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "psql"), `#!/bin/sh
printf '<%s>' "$0" "$@"
IFS= read -r line <"$PGPASSFILE"
printf ' %s\n' "$line"
export -p
`)
	if err := os.Chmod(filepath.Join(dir, "psql"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("INGESTD_ADMIN_TOKEN", "of-the-admin")
	t.Setenv("WAREHOUSE", u.String()) // a name of the operator's own
	code, stdout, stderr := runPsql(t, "env:WAREHOUSE", "", "-l", "-x")
	said, environment, _ := strings.Cut(stdout, "\n")
	if want := "<" + dir + `/psql><-l><-x> *:*:*:*:secret\:47\\11`; code != exitDone || said != want {
		t.Errorf("exit code %d: arguments and password are %q, want %q\n%s", code, said, want, stderr)
	}
	for _, secret := range []string{"secret:47", "secret%3A47", "WAREHOUSE", "of-the-admin"} {
		if strings.Contains(environment, secret) {
			t.Errorf("the environment of psql holds %s:\n%s", secret, environment)
		}
	}
}

func TestPsql_says_which_package_to_install_where_psql_is_missing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	code, _, stderr := runPsql(t, "postgres://127.0.0.1/unused", "")
	if code != exitFailed || !strings.Contains(stderr, "postgresql-client") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestPsqlEnvironment_connects_as_the_daemon_does(t *testing.T) {
	for _, name := range []string{"PGSSLMODE", "PGSSLROOTCERT", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeTestFile(t, ca, certificate(t))
	for _, tt := range []struct {
		name, url string
		want      []string
	}{
		{
			"address, user and password", "postgres://u:p%40ss@db.example:6432/claims",
			[]string{"PGHOST=db.example", "PGPORT=6432", "PGDATABASE=claims", "PGUSER=u", "PGSSLMODE=prefer"},
		},
		{"no name of a database", "postgres://u@db.example", []string{"PGDATABASE=u"}},
		{"a socket", "postgres:///claims?host=/run/pg&user=u", []string{"PGHOST=/run/pg", "PGSSLMODE=disable"}},
		{"several hosts", "postgres://u@a:1,b:2/d", []string{"PGHOST=a,b", "PGPORT=1,2", "PGSSLMODE=prefer"}},
		{"plain", "postgres://u@a/d?sslmode=disable", []string{"PGSSLMODE=disable"}},
		{"plain first", "postgres://u@a/d?sslmode=allow", []string{"PGSSLMODE=allow"}},
		{"encrypted", "postgres://u@a/d?sslmode=require", []string{"PGSSLMODE=require"}},
		{"authority", "postgres://u@a/d?sslmode=verify-ca&sslrootcert=" + ca, []string{"PGSSLMODE=verify-ca", "PGSSLROOTCERT=" + ca}},
		{"name too", "postgres://u@a/d?sslmode=verify-full&sslrootcert=" + ca, []string{"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + ca}},
		{"name too, written as words", "host=a user=u dbname=d sslmode=verify-full", []string{"PGHOST=a", "PGSSLMODE=verify-full"}},
		{"other parameters", "postgres://u@a/d?target_session_attrs=read-write", []string{"PGTARGETSESSIONATTRS=read-write"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := pgx.ParseConfig(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			got := psqlEnvironment([]string{"HOME=/home/u", "PGHOSTADDR=192.0.2.1", "PGSERVICE=other", "PGCLUSTER=15/other"}, c)
			for _, want := range append(tt.want, "HOME=/home/u") {
				if !slices.Contains(got, want) {
					t.Errorf("%s is missing in %q", want, got)
				}
			}
			for _, variable := range got {
				if name, _, _ := strings.Cut(variable, "="); slices.Contains(redirects, name) {
					t.Errorf("%s is handed on: psql would go elsewhere", variable)
				}
			}
		})
	}
}

// certificate is a self-signed one, in PEM.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
