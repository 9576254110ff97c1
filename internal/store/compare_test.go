package store_test

import (
	"fmt"
	"testing"

	"ingestd/internal/store"
)

func TestPublish_takes_older_versions_of_many_resources_for_no_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const n = 10_100 // more than one note of them holds
	old, recent := make([]string, n), make([]string, n)
	for i := range n {
		id := fmt.Sprintf("p%05d", i)
		old[i], recent[i] = patient(id, "2026-01-01T00:00:00Z", "old"), patient(id, "2026-02-01T00:00:00Z", "recent")
	}
	full := store.NewExport{RemovesGhosts: true}
	first := run(t, s, full, output("Patient", recent...))
	wantLedger(t, first, store.Ledger{Lines: n, Inserted: n})

	again := run(t, s, full, output("Patient", append([]string{recent[0]}, old[1:]...)...))
	wantLedger(t, again, store.Ledger{Lines: n, Unchanged: 1, Superseded: n - 1})
	if left := len(rows(t, s, "fhir.patient")); left != n {
		t.Errorf("%d resources are left, want all %d", left, n)
	}
}

func TestPublish_counts_a_resource_once_whose_unchanged_line_came_twice(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	full := store.NewExport{RemovesGhosts: true}
	text := many(20)
	run(t, s, full, output("Patient", text...))

	// Of the twenty, one is changed; of the others, three come twice, in another file.
	second := append([]string{patient("p00019", "", "changed")}, text[:19]...)
	e := run(t, s, full, output("Patient", second...), output("Patient", text[:3]...))
	wantLedger(t, e, store.Ledger{Lines: 23, Updated: 1, Unchanged: 19, Superseded: 3})

	e = run(t, s, full, output("Patient", second...), output("Patient", second[:5]...))
	wantLedger(t, e, store.Ledger{Lines: 25, Unchanged: 20, Superseded: 5})
}
