package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/payersim"
	"ingestd/internal/scheduler"
	"ingestd/internal/smartauth"
	"ingestd/internal/testpg"
)

// A payer whose authorization server is gone holds a worker for no longer than it takes to know that, and its export ends up with the
// reason: otherwise as many of them as there are workers would keep all others waiting.
func TestDaemon_goes_on_with_a_payer_while_the_authorization_servers_of_more_others_than_it_has_workers_are_gone(t *testing.T) {
	t.Parallel()
	const gone, workers = 6, 2
	file := filepath.Join(t.TempDir(), "key.pem")
	key := writeKey(t, file, "k")
	set, err := smartauth.NewJWKS(key)
	if err != nil {
		t.Fatal(err)
	}
	well := simulate(t, payersim.Options{Patients: 2, Clients: []payersim.Client{{ID: "c", JWKS: set}}})
	var payers strings.Builder
	for i := range gone {
		fmt.Fprintf(&payers, "  - {name: gone%d, fhir_url: \"http://%s/fhir\", auth: {client_id: c}}\n", i, nobodyListens(t))
	}
	url := testpg.New(t, nil)
	c := parse(t, `
database: {url: %q}
admin: {listen: ""}
workers: {control: %d}
keys: [{id: k, private_key: "file:%s"}]
defaults: {schedule: "@every 1h", limits: {poll_min: 100ms}, export: {types: [Patient]}}
payers:
%s  - {name: well, fhir_url: %q, auth: {client_id: c}}
`, url, workers, file, payers.String(), well)
	d, err := Open(t.Context(), Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(context.WithoutCancel(t.Context()))
	watcher, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watcher.Close(context.WithoutCancel(t.Context())) }()
	number := func(sql string) (n int) {
		if err := watcher.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for i := range gone {
		if _, err := d.Engine.Start(t.Context(), fmt.Sprintf("gone%d", i), scheduler.RunOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Engine.Start(t.Context(), "well", scheduler.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); number(`SELECT count(*) FROM ingest.export WHERE payer = 'well' AND state = 'published'`) == 0; {
		if time.Since(began) > 3*time.Minute {
			t.Fatal("the payer that is well waits for those that are not")
		}
		time.Sleep(50 * time.Millisecond) // bounded by the deadline
	}
	if n := number(`SELECT count(*) FROM river.river_job WHERE kind = 'start_export' AND array_to_string(errors, ' ') LIKE '%connection refused%'`); n == 0 {
		t.Error("no job says why there is no token")
	}
	if n := number(`SELECT count(*) FROM river.river_job WHERE array_to_string(errors, ' ') LIKE '%deadline exceeded%'`); n != 0 {
		t.Errorf("%d jobs were cut off before they could say why", n)
	}
}

// nobodyListens is an address at which connections are refused.
func nobodyListens(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
