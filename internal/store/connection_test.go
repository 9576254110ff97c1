package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestLock_of_a_host_that_is_gone_without_a_word_is_given_up(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lease, err := s.LockFile(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(t.Context())
	// The values are those of TCP, which the tests' Postgres does not speak: that they were set shows.
	rows, err := lease.Conn().Query(t.Context(), `SELECT name FROM pg_settings WHERE name LIKE 'tcp\_%' AND source = 'session' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	set, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(set) != 4 {
		t.Errorf("set are %v, %v, want the four settings of keepalive", set, err)
	}
}
