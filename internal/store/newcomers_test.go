package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

// newcomers lists the patients of payer "p" whose data is to be asked for alone.
func newcomers(t *testing.T, s *store.Store) (ids []string) {
	t.Helper()
	return nextNewcomers(t, s, 100)
}

func nextNewcomers(t *testing.T, s *store.Store, limit int) (ids []string) {
	t.Helper()
	err := s.InTx(t.Context(), func(tx pgx.Tx) (err error) {
		ids, err = s.NewcomersTx(t.Context(), tx, "p", limit)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// publishNewcomers publishes an export that looks for newcomers.
func publishNewcomers(t *testing.T, s *store.Store, n store.NewExport, change func(e store.Export, o *store.PublishOptions), files ...testFile) {
	t.Helper()
	e := begin(t, s, n, files...)
	stage(t, s, e, files...)
	o := permissive
	if n.Kind == store.KindIncremental {
		o.Newcomers = store.NewcomersBackfill
	}
	if change != nil {
		change(e, &o)
	}
	if _, err := publish(t, s, e.ID, o); err != nil {
		t.Fatal(err)
	}
	if err := s.DropStaging(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
}

var incremental = store.NewExport{Kind: store.KindIncremental}

func TestINC5_the_first_patients_of_a_group_that_was_empty_are_newcomers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	publishNewcomers(t, s, store.NewExport{}, nil, output("Organization", `{"resourceType":"Organization","id":"o"}`))
	publishNewcomers(t, s, incremental, nil, output("Patient", patient("a", "", "1")))
	if got := newcomers(t, s); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, want a: what it had before it joined is not here", got)
	}
}

func TestINC5_the_patients_of_a_first_export_since_an_instant_are_no_newcomers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	publishNewcomers(t, s, incremental, nil, output("Patient", patient("a", "", "1")))
	if got := newcomers(t, s); len(got) != 0 {
		t.Errorf("got %q, want none: what lies before the configured instant nobody asks for", got)
	}
}

func TestINC5_newcomers_are_settled_by_an_export_that_surely_holds_their_data_alone(t *testing.T) {
	t.Parallel()
	backfill := store.NewExport{Kind: store.KindBackfill, Patients: []string{"b"}}
	whole := output("Patient", patient("a", "", "1"), patient("b", "", "1"))
	trouble := testFile{store.FileError, "OperationOutcome", []string{`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception"}]}`}, -1}
	withErrors := func(_ store.Export, o *store.PublishOptions) { o.ErrorsMaxShare = 1 }
	partial := func(_ store.Export, o *store.PublishOptions) { o.Partial = true }
	for name, test := range map[string]struct {
		export store.NewExport
		change func(t *testing.T, s *store.Store) func(store.Export, *store.PublishOptions)
		files  []testFile
		stay   bool
	}{
		"a back-fill":             {backfill, nil, []testFile{whole}, false},
		"a full export":           {store.NewExport{}, nil, []testFile{whole}, false},
		"a back-fill with errors": {backfill, always(withErrors), []testFile{whole, trouble}, true},
		"a full export with errors": {
			store.NewExport{}, always(withErrors), []testFile{whole, trouble}, true,
		},
		"a back-fill that may lack types":                                {backfill, always(partial), []testFile{whole}, true},
		"a full export that may lack types":                              {store.NewExport{}, always(partial), []testFile{whole}, true},
		"a back-fill that was granted less than what they were found in": {backfill, grantedPatients(false), []testFile{whole}, true},
		"a back-fill that was granted as much":                           {backfill, grantedPatients(true), []testFile{whole}, false},
		"an adopted export that does not say what was asked for": {
			store.NewExport{},
			func(t *testing.T, s *store.Store) func(store.Export, *store.PublishOptions) {
				t.Helper()
				return func(e store.Export, _ *store.PublishOptions) {
					exec(t, s, `UPDATE ingest.export SET adopted = true, transaction_at = NULL WHERE id = $1`, e.ID)
				}
			},
			[]testFile{whole},
			true,
		},
		"a full export of before they joined": {
			store.NewExport{},
			func(t *testing.T, s *store.Store) func(store.Export, *store.PublishOptions) {
				t.Helper()
				return func(e store.Export, _ *store.PublishOptions) {
					completeAt(t, s, e, time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC))
				}
			},
			[]testFile{whole},
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			publishNewcomers(t, s, store.NewExport{}, nil, output("Patient", patient("a", "", "1")))
			publishNewcomers(t, s, incremental, nil, output("Patient", patient("b", "", "1")))
			if got := newcomers(t, s); !slices.Equal(got, []string{"b"}) {
				t.Fatalf("got %q, want b", got)
			}
			var change func(store.Export, *store.PublishOptions)
			if test.change != nil {
				change = test.change(t, s)
			}
			publishNewcomers(t, s, test.export, change, test.files...)
			publishNewcomers(t, s, incremental, nil, output("Patient", patient("a", "", "1")))
			if got := newcomers(t, s); (len(got) == 1) != test.stay {
				t.Errorf("got %q, want b still waited for: %v", got, test.stay)
			}
		})
	}
}

// grantedPatients makes an export one of all types to which Patients alone were granted; before says that the others were so as well.
func grantedPatients(before bool) func(*testing.T, *store.Store) func(store.Export, *store.PublishOptions) {
	return func(t *testing.T, s *store.Store) func(store.Export, *store.PublishOptions) {
		t.Helper()
		return func(e store.Export, _ *store.PublishOptions) {
			exec(t, s, `UPDATE ingest.export SET granted = '{Patient}' WHERE id = $1`, e.ID)
			if before {
				exec(t, s, `UPDATE ingest.watermark SET granted = '{Patient}'`)
			}
		}
	}
}

func TestINC5_patients_that_were_not_granted_before_are_no_newcomers(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]testFile{
		"and none is here": output("Organization", `{"resourceType":"Organization","id":"o"}`), "and some are here": output("Patient", patient("a", "", "1")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			publishNewcomers(t, s, store.NewExport{}, nil, first)
			exec(t, s, `UPDATE ingest.watermark SET granted = '{Organization}'`)
			publishNewcomers(t, s, incremental, nil, output("Patient", patient("b", "", "1")))
			if got := newcomers(t, s); len(got) != 0 {
				t.Errorf("got %q, want none: a full export is due for all patients", got)
			}
		})
	}
}

func always(change func(store.Export, *store.PublishOptions)) func(*testing.T, *store.Store) func(store.Export, *store.PublishOptions) {
	return func(*testing.T, *store.Store) func(store.Export, *store.PublishOptions) { return change }
}

func TestINC5_back_fills_that_lack_something_keep_no_other_newcomers_waiting(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	partial := func(_ store.Export, o *store.PublishOptions) { o.Partial = true }
	publishNewcomers(t, s, store.NewExport{}, nil, output("Patient", patient("a", "", "1")))
	for _, joined := range []string{"b", "c", "d"} {
		publishNewcomers(t, s, incremental, nil, output("Patient", patient(joined, "", "1")))
	}
	for _, want := range []string{"b", "c", "d"} {
		if got := nextNewcomers(t, s, 1); !slices.Equal(got, []string{want}) {
			t.Fatalf("got %q, want %s to be asked for next", got, want)
		}
		publishNewcomers(t, s, store.NewExport{Kind: store.KindBackfill, Patients: []string{want}}, partial, output("Patient", patient(want, "", "1")))
	}
	if got := nextNewcomers(t, s, 1); len(got) != 0 {
		t.Errorf("got %q, want none before the next export: all have been asked for", got)
	}
	publishNewcomers(t, s, incremental, nil, output("Patient", patient("a", "", "1")))
	if got := nextNewcomers(t, s, 9); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("got %q, want all of them again", got)
	}
}
