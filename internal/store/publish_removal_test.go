package store_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

func TestDEL1_deletions_remove_rows_and_keep_their_last_version(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("c", "", "1")))
	bundle := `{"resourceType":"Bundle","type":"transaction","entry":[` +
		`{"request":{"method":"DELETE","url":"Patient/a"}},{"request":{"method":"DELETE","url":"Patient/unknown"}},` +
		`{"request":{"method":"DELETE","url":"Patient/b"}},{"request":{"method":"DELETE","url":"Observation/never-seen"}}]}`
	e := run(t, s, store.NewExport{Kind: store.KindIncremental},
		output("Patient", patient("b", "", "2")), // DEL-2: what is in output as well stays
		testFile{store.FileDeleted, "Bundle", []string{bundle}, -1})
	wantLedger(t, e, store.Ledger{Lines: 1, Updated: 1, Deleted: 1})
	if got := rows(t, s, "fhir.patient"); len(got) != 2 || got["b"].ID == "" || got["c"].ID == "" {
		t.Errorf("got %v, want b and c", got)
	}
	history := rows(t, s, "fhir_history.patient")
	if len(history) != 1 || history["a"].ExportID != first.ID {
		t.Errorf("got history %v, want a as export %d wrote it", history, first.ID)
	}
}

func TestDEL2_a_deletion_of_an_unchanged_resource_of_the_same_export_is_not_applied(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")), testFile{
		store.FileDeleted, "", []string{
			`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/a"}}]}`,
		}, -1,
	})
	wantLedger(t, e, store.Ledger{Lines: 1, Unchanged: 1})
}

// A payer may answer with a job that it kept. Many payers send no lastUpdated that would tell an old version.
func TestPublish_of_a_late_export_takes_back_nothing_that_a_later_one_said(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	may := func(day int) time.Time { return time.Date(2026, 5, day, 0, 0, 0, 0, time.UTC) }
	publishAt := func(at time.Time, files ...testFile) store.Export {
		t.Helper()
		e := begin(t, s, store.NewExport{Kind: store.KindIncremental}, files...)
		completeAt(t, s, e, at)
		stage(t, s, e, files...)
		e, err := publish(t, s, e.ID, permissive)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	publishAt(may(1), output("Patient", patient("changed", "", "1"), patient("deleted", "", "1"), patient("dated", "2026-04-01T00:00:00Z", "1")))
	publishAt(may(3), output("Patient", patient("changed", "", "3"), patient("created again", "", "3"), patient("dated", "2026-04-01T00:00:00Z", "3")))
	late := publishAt(may(2),
		output("Patient", patient("changed", "", "2"), patient("dated", "2026-04-02T00:00:00Z", "2"), patient("new", "", "2")),
		testFile{store.FileDeleted, "Bundle", []string{bundle([]string{"created again", "deleted"})}, -1})
	wantLedger(t, late, store.Ledger{Lines: 3, Inserted: 1, Updated: 1, Superseded: 1, Deleted: 1})
	got := make(map[string]string)
	for id, r := range rows(t, s, "fhir.patient") {
		got[id] = r.Resource[strings.Index(r.Resource, `"note": "`)+len(`"note": "`):][:1]
	}
	want := map[string]string{"changed": "3", "created again": "3", "dated": "2", "new": "2"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
