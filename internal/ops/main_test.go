package ops

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ingestd/internal/config"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }

func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Migrate(ctx)
	return err
}

// newDirect is the control of two payers on a database of its own; nothing works their exports.
func newDirect(t *testing.T) Direct {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: testpg.New(t, migrate), MaxConnections: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	payers := []config.Payer{{Name: "p", Enabled: true}, {Name: "q", Enabled: true}}
	d := Direct{Store: s, Payers: func() []config.Payer { return payers }}
	engine, err := scheduler.New(scheduler.Options{Store: s, Payers: []scheduler.Payer{{Config: payers[0]}, {Config: payers[1]}}})
	if err != nil {
		t.Fatal(err)
	}
	d.Engine = engine
	return d
}

// listen serves the admin API of d, with or without a token.
func listen(t *testing.T, d Direct, token string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(NewServer(ServerOptions{
		Store: d.Store, Engine: d.Engine, Config: func() (*config.Config, time.Time) { return &config.Config{Payers: d.Payers()}, time.Time{} },
		Metrics: NewMetrics(MetricsOptions{
			Store: d.Store, Config: func() *config.Config { return &config.Config{Payers: d.Payers()} }, Version: "test", Logger: slog.New(slog.DiscardHandler),
		}),
		Logger: slog.New(slog.DiscardHandler), Guard: NewGuard(token), Host: "server",
	}))
	t.Cleanup(server.Close)
	return server
}

func execute(t *testing.T, s *store.Store, sql string, args ...any) {
	t.Helper()
	if _, err := s.Pool().Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// newHTTP serves a handler and returns its URL.
func newHTTP(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}
