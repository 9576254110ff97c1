package scheduler

import (
	"fmt"
	"net"
	"testing"

	"ingestd/internal/store"
)

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
