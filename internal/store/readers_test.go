package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ingestd/internal/store"
)

// Each of 50 full exports changes every row and the number of rows, by all roads: what is first is attached, then merged, with ghosts.
// Readers who ask all the time see one export whole, or the other.
func TestReaders_never_see_a_mixture_of_two_exports(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const publishes, payers = 50, 2
	rows := func(n int) int { return 20 + n%7 }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var seen [payers]map[int64]int64 // by payer: export → rows
	group, ctx := errgroup.WithContext(ctx)
	for i := range seen {
		seen[i] = map[int64]int64{}
		payer := fmt.Sprintf("p%d", i)
		group.Go(func() error {
			for ctx.Err() == nil {
				var n int64
				var least, most *int64
				err := s.Pool().QueryRow(ctx, `SELECT count(*), max(export_id), min(export_id) FROM fhir.patient WHERE payer = $1`, payer).
					Scan(&n, &most, &least)
				if store.SQLState(err) == "42P01" || ctx.Err() != nil {
					continue // there is no table yet
				}
				if err != nil {
					return err
				}
				if n == 0 {
					continue
				}
				if *least != *most {
					return fmt.Errorf("%d rows of exports %d and %d at once", n, *least, *most)
				}
				if before, ok := seen[i][*most]; ok && before != n {
					return fmt.Errorf("export %d has %d rows, and had %d", *most, n, before)
				}
				seen[i][*most] = n
			}
			return nil
		})
	}
	want := map[int64]int64{}
	for n := range publishes {
		var text []string
		for id := range rows(n) {
			text = append(text, patient(fmt.Sprint(id), "", fmt.Sprintf("export %d", n)))
		}
		e := run(t, s, store.NewExport{Payer: fmt.Sprintf("p%d", n%payers), RemovesGhosts: true}, output("Patient", text...))
		want[e.ID] = int64(rows(n))
		time.Sleep(5 * time.Millisecond) // the readers have a look at each
	}
	stop()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var looks int
	for i := range seen {
		looks += len(seen[i])
		for export, n := range seen[i] {
			if want[export] != n {
				t.Errorf("export %d was seen with %d rows, and has %d", export, n, want[export])
			}
		}
	}
	if looks < publishes/2 {
		t.Errorf("the readers saw %d of %d publishes", looks, publishes)
	}
}
