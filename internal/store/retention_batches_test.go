package store_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestRetention_deletes_in_batches_and_no_half_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var old []int64
	for i, files := range []int{3, 3, 20, 3, 1} {
		id := past(t, s, "p", 100, "")
		exec(t, s, `INSERT INTO ingest.export_file (export_id, ordinal, place, kind, url, requires_token)
			SELECT $1, n, n::text, 'output', '', false FROM generate_series(1, $2) AS n`, id, files)
		exec(t, s, `INSERT INTO ingest.outcome (export_id, severity) SELECT $1, 'warning' FROM generate_series(1, $2)`, id, 4*i)
		old = append(old, id)
	}
	past(t, s, "p", 0, "")
	recent(t, s, "p")
	look := func() map[int64]int {
		found := make(map[int64]int)
		for _, id := range ids(t, s, "p") {
			found[id] = count(t, s, `SELECT count(*) FROM ingest.export_file WHERE export_id = $1`, id)
		}
		return found
	}
	files := look()
	most := make(map[string]int64)
	steps := 0
	for complete := false; !complete; steps++ {
		if steps > 50 {
			t.Fatal("it comes to no end")
		}
		left := 2 // the first looks for quarantined lines
		var err error
		complete, err = s.Prune(t.Context(), store.PruneOptions{
			Retention: store.Retention{Exports: 30 * day}, Batch: 6, Proceed: func() bool { left--; return left >= 0 },
			Pruned: func(table string, n int64) { most[table] = max(most[table], n) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for id, n := range look() {
			if n != files[id] {
				t.Errorf("export %d is there with %d of %d files", id, n, files[id])
			}
		}
	}
	if steps < 10 || most["outcome"] != 6 || most["export"] != 2 || most["export_file"] != 20 {
		t.Errorf("%d transactions, at most %v", steps, most)
	}
	if got := ids(t, s, "p"); slices.ContainsFunc(got, func(id int64) bool { return slices.Contains(old, id) }) {
		t.Errorf("got %v, want none of %v", got, old)
	}
}

func TestRetention_of_two_instances_at_once_is_that_of_one(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	other, err := store.Open(t.Context(), store.Options{URL: s.Pool().Config().ConnString(), MaxConnections: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	const old = 40
	for range old {
		past(t, s, "p", 100, "")
	}
	past(t, s, "p", 0, "")
	recent(t, s, "p")
	exec(t, s, `INSERT INTO ingest.export_file (export_id, ordinal, place, kind, url, requires_token) SELECT id, 1, '', 'output', '', false FROM ingest.export`)
	var mu sync.Mutex
	total := make(map[string]int64)
	var both sync.WaitGroup
	for _, instance := range []*store.Store{s, other} {
		both.Go(func() {
			deadline := time.Now().Add(2 * time.Minute)
			for complete := false; !complete && time.Now().Before(deadline); {
				var err error
				complete, err = instance.Prune(t.Context(), store.PruneOptions{
					Retention: store.Retention{Exports: 30 * day}, Batch: 2, Pruned: func(table string, n int64) {
						mu.Lock()
						defer mu.Unlock()
						total[table] += n
					},
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	both.Wait()
	if want := (map[string]int64{"export": old, "export_file": old}); !maps.Equal(total, want) {
		t.Errorf("pruned %v, want %v", total, want)
	}
}

func TestRetention_waits_for_nobody_and_takes_nothing_from_who_is_at_work(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	busy, free := past(t, s, "p", 100, ""), past(t, s, "p", 100, "")
	past(t, s, "p", 0, "")
	recent(t, s, "p")
	r := store.Retention{Exports: 30 * day}
	err := s.InTx(t.Context(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE ingest.export IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		if complete, err := s.Prune(t.Context(), store.PruneOptions{Retention: r}); complete || err != nil {
			t.Errorf("behind a lock: complete %t, %v, want that it is put off", complete, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.InTx(t.Context(), func(tx pgx.Tx) error {
		if _, err := s.ExportForUpdateTx(t.Context(), tx, busy); err != nil {
			return err
		}
		prune(t, s, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(t, s, "p"); !slices.Contains(got, busy) || slices.Contains(got, free) {
		t.Errorf("got %v, want %d, which somebody was at work on, and not %d", got, busy, free)
	}
	prune(t, s, r)
	if got := ids(t, s, "p"); slices.Contains(got, busy) {
		t.Errorf("%d is still there", busy)
	}
}

func TestRetention_ends_with_its_context(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range 3 {
		id := past(t, s, "p", 100, "")
		exec(t, s, `INSERT INTO ingest.export_file (export_id, ordinal, place, kind, url, requires_token) VALUES ($1, 1, '', 'output', '', false)`, id)
	}
	past(t, s, "p", 0, "")
	recent(t, s, "p")
	ctx, cancel := context.WithCancel(t.Context())
	complete, err := s.Prune(ctx, store.PruneOptions{
		Retention: store.Retention{Exports: 30 * day}, Batch: 1, Pruned: func(string, int64) { cancel() },
	})
	if complete || err == nil {
		t.Errorf("complete %t, %v, want that it ends", complete, err)
	}
}
