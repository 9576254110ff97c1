package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ingestd/internal/config"
)

func TestLoad_checks_how_the_database_is_signed_in_to(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ database, want string }{
		{`{url: "env:X", password: "file:/run/secrets/db"}`, ""},
		{`{url: "env:X", password: "aws-secretsmanager:arn:aws:secretsmanager:us-east-1:123456789012:secret:db-AbCdEf#password"}`, ""},
		{`{url: "postgres://u@db.example/d?sslmode=verify-full", auth: rds-iam, region: us-gov-west-1}`, ""},
		{`{url: "env:X", auth: rds-iam}`, ""},
		{`{url: "env:X", password: hunter2}`, "never written into the configuration"},
		{`{url: "env:X", auth: kerberos}`, "expected one of password, rds-iam"},
		{`{url: "env:X", auth: rds-iam, password: "env:Y"}`, "of no use with database.auth: rds-iam"},
		{`{url: "env:X", region: us-east-1}`, "of no use without database.auth: rds-iam"},
		{`{url: "env:X", auth: rds-iam, region: Virginia}`, "expected an AWS region"},
		{`{url: "embedded:/tmp/pg", password: "env:Y"}`, "needs no sign-in"},
		{`{url: "embedded:/tmp/pg", auth: rds-iam}`, "needs no sign-in"},
	} {
		file := filepath.Join(t.TempDir(), "ingestd.yaml")
		if err := os.WriteFile(file, []byte("database: "+tt.database+"\npayers: []\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(file)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.database, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v repeats the password", err)
		}
	}
}
