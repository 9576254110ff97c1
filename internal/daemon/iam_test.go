package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

// On ECS the credentials come from an endpoint of the task's. What RDS does with a token, the server here does with it as a password: each
// connection, of the pools as of migrations, comes with one that was signed for it.
func TestOpenDatabase_signs_a_token_for_each_connection(t *testing.T) {
	server := testpg.NewSecured(t)
	var mu sync.Mutex // held while a connection is given its password
	var credentials atomic.Int64
	ecs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/credentials/task" || r.Header.Get("Authorization") != "task-token" {
			http.Error(w, "not the task's", http.StatusForbidden)
			return
		}
		credentials.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": "ASIATASK", "SecretAccessKey": "of-the-task", "Token": "session-of-the-task",
			"Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "RoleArn": "arn:aws:iam::123456789012:role/task",
		})
	}))
	t.Cleanup(ecs.Close)
	for name, value := range map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": ecs.URL + "/v2/credentials/task", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "task-token",
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	if err := server.Exec(t.Context(), `CREATE ROLE app LOGIN; GRANT CREATE, TEMPORARY ON DATABASE ingestd TO app`); err != nil {
		t.Fatal(err)
	}
	c := config.Database{URL: config.Secret(server.URL(server.Host, "app", "verify-full")), Auth: config.AuthRDSIAM, MaxConnections: 6}
	sign := NewSecrets(nil).databasePassword(c)
	tokens := make(map[string]bool)
	// What stands between: it makes the token of each connection the password that the server takes, for that connection alone.
	password := func(ctx context.Context, l store.Login) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		token, err := sign(ctx, l)
		if err != nil {
			return "", err
		}
		u, err := url.Parse("https://" + token)
		if err != nil || u.Host != server.Host+":5432" || u.Query().Get("DBUser") != "app" ||
			!strings.HasPrefix(u.Query().Get("X-Amz-Credential"), "ASIATASK/") || u.Query().Get("X-Amz-Security-Token") != "session-of-the-task" {
			return "", fmt.Errorf("not a token of the task's role for this database: %v", err)
		}
		token += fmt.Sprintf("#%d", len(tokens)) // two of one second are the same
		tokens[token] = true
		return token, server.Exec(ctx, fmt.Sprintf(`ALTER ROLE app PASSWORD '%s'`, token))
	}
	s, err := store.Open(t.Context(), store.Options{URL: string(c.URL), Password: password, VerifyServer: true, MaxConnections: 6})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	before := len(tokens)
	mu.Unlock()
	if err := server.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new connection with a new token", func() bool { return s.Ping(t.Context()) == nil })
	mu.Lock()
	defer mu.Unlock()
	if len(tokens) <= before || credentials.Load() != 1 {
		t.Errorf("%d tokens before the connections were lost and %d after, with %d requests for credentials; want more, and one",
			before, len(tokens), credentials.Load())
	}

	// The server's own passwords are none of these tokens: what is configured is what is sent.
	if _, err := OpenDatabase(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("got %v, want a token that nobody made a password refused", err)
	}
}
