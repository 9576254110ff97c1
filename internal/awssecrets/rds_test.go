package awssecrets

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// The signatures were computed apart from the SDK, after the rules of Signature Version 4 for query parameters.
func TestDatabaseToken_is_signed_as_RDS_verifies_it(t *testing.T) {
	const host, secret = "ingestd.abc123.us-east-1.rds.amazonaws.com", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	for _, tt := range []struct{ name, id, session, region, signature string }{
		{"a user's key", "AKIDEXAMPLE", "", "", "c8a704e8e054c95e9b5b34cee51a2fc07489f1b32df94c430f71182fcc95d7a2"},
		{"a role's key", "ASIAEXAMPLE", "token/with+signs==", "us-east-1", "aa1e83971aeeb0ec2d1649e0d5cd37c4688409308a07eee0223af129ffd5e292"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if now := time.Now().UTC(); !now.Equal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
					t.Fatalf("the clock of the test stands at %v", now)
				}
				client := New(Options{Load: func(context.Context) (aws.Config, error) {
					region := "us-east-1"
					if tt.region != "" {
						region = "eu-north-1" // another one than that of the database
					}
					return aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider(tt.id, secret, tt.session)}, nil
				}})
				token, err := client.DatabaseToken(t.Context(), tt.region, host, "5432", "ingestd_ingest")
				if err != nil {
					t.Fatal(err)
				}
				u, err := url.Parse("https://" + token)
				if err != nil {
					t.Fatal(err)
				}
				query := u.Query()
				if u.Host != host+":5432" || query.Get("Action") != "connect" || query.Get("DBUser") != "ingestd_ingest" ||
					query.Get("X-Amz-Expires") != "900" || query.Get("X-Amz-Security-Token") != tt.session || query.Get("X-Amz-Signature") != tt.signature {
					t.Errorf("got %s", token)
				}
			})
		})
	}
}

func TestDatabaseToken_says_what_is_missing(t *testing.T) {
	t.Parallel()
	with := func(c aws.Config, err error) *Client {
		return New(Options{Load: func(context.Context) (aws.Config, error) { return c, err }})
	}
	static := credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret-access-key", "")
	none := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no role is attached")
	})
	for _, tt := range []struct {
		name   string
		client *Client
		want   string
	}{
		{"no region", with(aws.Config{Credentials: static}, nil), "set database.region"},
		{"no credentials", with(aws.Config{Region: "us-east-1", Credentials: none}, nil), "are there AWS credentials"},
		{"no configuration", with(aws.Config{}, errors.New("the shared file is broken")), "the shared file is broken"},
	} {
		_, err := tt.client.DatabaseToken(t.Context(), "", "db", "5432", "u")
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret-access-key") {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
