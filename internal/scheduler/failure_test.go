package scheduler

import (
	"fmt"
	"net"
	"testing"
	"time"

	"ingestd/internal/export"
	"ingestd/internal/smartauth"
	"ingestd/internal/store"
)

func TestTOK5_a_token_that_is_refused_while_an_export_runs_is_asked_for_again(t *testing.T) {
	t.Parallel()
	refused := &smartauth.Error{Code: "invalid_client", Status: 401, RetryAfter: time.Minute}
	running := &export.Error{Phase: export.PhaseStatus, Code: export.CodeAuthorization, Action: export.ActionRetry, RetryAfter: time.Minute, Err: refused}
	if act, wait := action(running); act != export.ActionRetry || wait != time.Minute {
		t.Errorf("of an export that runs: got %s after %s, want a retry after a minute", act, wait)
	}
	if failure, _ := describe(running); failure.Code != "auth_invalid_client" {
		t.Errorf("got code %s, want the authorization server's", failure.Code)
	}
	if act, _ := action(refused); act != export.ActionFail {
		t.Errorf("before the kick-off: got %s, want the export to fail", act)
	}
}

func TestDescribe_names_Postgres_where_it_cannot_be_reached(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	gone, err := store.Open(t.Context(), store.Options{URL: "postgres://u@" + address + "/d", MaxConnections: 4, Lazy: true})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	_, failure := gone.Waiting(t.Context())
	if f, _ := describe(failure); f.Code != "postgres" || f.Hint == "" {
		t.Errorf("%v: got code %q and hint %q, want postgres", failure, f.Code, f.Hint)
	}
	if f, _ := describe(fmt.Errorf("a fault of ours")); f.Code != codeInternal {
		t.Errorf("a fault of ours has code %q", f.Code)
	}
}
