package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

func TestPublish_attaches_a_first_load_and_merges_what_follows(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := run(t, s, store.NewExport{},
		output("Patient", patient("a", "", "1"), patient("b", "", "1")),
		output("Observation", observation("x", "a", "1")))
	wantLedger(t, first, store.Ledger{Lines: 3, Inserted: 3})
	before := rows(t, s, "fhir.patient")

	second := run(t, s, store.NewExport{Kind: store.KindIncremental},
		output("Patient", patient("b", "", "2"), patient("c", "", "1"), patient("a", "", "1")))
	wantLedger(t, second, store.Ledger{Lines: 3, Inserted: 1, Updated: 1, Unchanged: 1})
	after := rows(t, s, "fhir.patient")
	if len(after) != 3 || !strings.Contains(after["b"].Resource, `"2"`) || after["b"].ExportID != second.ID {
		t.Errorf("got %v, want b updated by export %d", after, second.ID)
	}
	if after["a"] != before["a"] {
		t.Errorf("the unchanged row was written: %v, before %v", after["a"], before["a"])
	}
	if got := rows(t, s, "fhir.observation"); len(got) != 1 || got["x"].ExportID != first.ID {
		t.Errorf("got observations %v", got)
	}
}

func TestPublish_of_the_same_data_writes_no_row(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	files := []testFile{output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("a", "", "2"))}
	run(t, s, store.NewExport{}, files...)
	before := rows(t, s, "fhir.patient")
	again := run(t, s, store.NewExport{}, files...)
	// The earlier line of a is now compared with the later one that is published, and loses to it once more.
	wantLedger(t, again, store.Ledger{Lines: 3, Unchanged: 2, Superseded: 1})
	after := rows(t, s, "fhir.patient")
	for id, r := range after {
		if before[id] != r {
			t.Errorf("row %s was written: %v, before %v", id, r, before[id])
		}
	}
}

func TestND6_of_repeated_resources_the_newest_wins_then_the_later_line(t *testing.T) {
	t.Parallel()
	old, recent := "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
	tests := []struct {
		name  string
		files []testFile
		want  string
	}{
		{"later line among equals", []testFile{output("Patient", patient("a", "", "1"), patient("a", "", "2"))}, "2"},
		{"newer first", []testFile{output("Patient", patient("a", recent, "1"), patient("a", old, "2"))}, "1"},
		{"newer last", []testFile{output("Patient", patient("a", old, "1"), patient("a", recent, "2"))}, "2"},
		{"newer in an earlier file", []testFile{
			output("Patient", patient("a", recent, "1")), output("Patient", patient("a", old, "2")),
		}, "1"},
		{"later file among equals", []testFile{
			output("Patient", patient("a", old, "1")), output("Patient", patient("a", old, "2")),
		}, "2"},
		{"dated before undated", []testFile{output("Patient", patient("a", old, "1"), patient("a", "", "2"))}, "1"},
	}
	for _, test := range tests {
		for _, road := range []string{"attach", "merge"} {
			t.Run(test.name+" "+road, func(t *testing.T) {
				t.Parallel()
				s := newStore(t)
				if road == "merge" {
					run(t, s, store.NewExport{}, output("Patient", patient("z", "", "0")))
				}
				e := run(t, s, store.NewExport{Kind: store.KindIncremental}, test.files...)
				wantLedger(t, e, store.Ledger{Lines: 2, Inserted: 1, Superseded: 1})
				if got := rows(t, s, "fhir.patient")["a"].Resource; !strings.Contains(got, fmt.Sprintf("%q", test.want)) {
					t.Errorf("got %s, want note %s", got, test.want)
				}
			})
		}
	}
}

func TestPublish_lets_a_later_line_that_repeats_the_published_version_win(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	before := rows(t, s, "fhir.patient")
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "2"), patient("a", "", "1")))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Superseded: 1})
	if after := rows(t, s, "fhir.patient"); after["a"] != before["a"] {
		t.Errorf("got %v, want it as before, %v", after["a"], before["a"])
	}
}

func TestPublish_never_replaces_a_newer_version(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "2026-02-01T00:00:00Z", "new"), patient("b", "", "1")))
	e := run(t, s, store.NewExport{RemovesGhosts: true},
		output("Patient", patient("a", "2026-01-01T00:00:00Z", "old"), patient("b", "", "1")))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Superseded: 1})
	if got := rows(t, s, "fhir.patient")["a"].Resource; !strings.Contains(got, `"new"`) {
		t.Errorf("got %s, want the newer version", got)
	}
}

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

func TestINC4_ghosts_leave_after_a_full_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")),
		output("Observation", observation("x", "a", "1")))

	incremental := run(t, s, store.NewExport{Kind: store.KindIncremental}, output("Patient", patient("a", "", "2")))
	wantLedger(t, incremental, store.Ledger{Lines: 1, Updated: 1})

	full := run(t, s, store.NewExport{RemovesGhosts: true, Types: []string{"Patient"}}, output("Patient", patient("a", "", "2")))
	wantLedger(t, full, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
	if got := rows(t, s, "fhir.observation"); len(got) != 1 {
		t.Errorf("a type that was not asked for lost its rows: %v", got)
	}

	all := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "2")))
	wantLedger(t, all, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
	if got := rows(t, s, "fhir.observation"); len(got) != 0 {
		t.Errorf("a type that a full export of all types no longer holds keeps its rows: %v", got)
	}
}

func TestINC4_no_ghosts_leave_while_lines_are_in_quarantine(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	e := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1"), `{"resourceType":"Patient","id":"b"`))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Quarantined: 1})
}

func TestINC4_no_ghosts_leave_where_a_file_may_have_been_cut_off(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	file := output("Patient", patient("a", "", "1"))
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
	f, err := loadFile(t, s, e, 0, &lines{text: file.lines}, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = s.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := s.FileLoadedTx(t.Context(), tx, e, f, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	published, err := publish(t, s, e.ID, permissive)
	if err != nil {
		t.Fatal(err)
	}
	wantLedger(t, published, store.Ledger{Lines: 1, Unchanged: 1})
}

func TestPublish_is_held_back_where_too_much_would_go(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	files := []testFile{output("Patient", patient("a", "", "1"), patient("b", "", "1"), patient("c", "", "1"))}
	run(t, s, store.NewExport{}, files...)
	files[0].lines = files[0].lines[:1]
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, files...)
	stage(t, s, e, files...)

	guarded := permissive
	guarded.GhostMaxShare = 0.5
	_, err := publish(t, s, e.ID, guarded)
	var held *store.HeldError
	if !errors.As(err, &held) || held.Ghosts != 2 || held.Rows != 3 {
		t.Fatalf("got %v, want it held: 2 of 3", err)
	}
	if x := get(t, s, e.ID); x.State != store.StateHeld {
		t.Errorf("got state %s, want held", x.State)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 3 {
		t.Errorf("a held export changed the table: %v", got)
	}
	if err := s.InTx(ctx, func(tx pgx.Tx) error { return s.ReleaseTx(ctx, tx, e.ID, "operator") }); err != nil {
		t.Fatal(err)
	}
	released, err := publish(t, s, e.ID, guarded)
	if err != nil {
		t.Fatal(err)
	}
	wantLedger(t, released, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 2})
}

func TestPublish_is_not_held_back_for_rows_of_types_that_were_not_asked_for(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Types: []string{"Patient"}}, output("Patient", patient("a", "", "1"), patient("b", "", "1")))
	files := []testFile{
		output("Patient", patient("a", "", "1"), patient("b", "", "1")),
		output("Observation", observation("x", "a", "1"), observation("y", "a", "1"), observation("z", "a", "1")),
	}
	e := begin(t, s, store.NewExport{Types: []string{"Patient"}, RemovesGhosts: true}, files...)
	stage(t, s, e, files...)
	guarded := permissive
	guarded.GhostMaxShare = 0.1
	published, err := publish(t, s, e.ID, guarded)
	if err != nil {
		t.Fatal(err)
	}
	wantLedger(t, published, store.Ledger{Lines: 5, Inserted: 3, Unchanged: 2})
}

func TestPublish_keeps_replaced_versions_where_history_is_all(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	file := output("Patient", patient("a", "", "2"))
	e := begin(t, s, store.NewExport{}, file)
	stage(t, s, e, file)
	all := permissive
	all.History = "all"
	if _, err := publish(t, s, e.ID, all); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, s, "fhir_history.patient"); len(got) != 1 || got["a"].ExportID != first.ID {
		t.Errorf("got history %v, want the version of export %d", got, first.ID)
	}
}

func TestMAN5_errors_of_the_payer_hold_a_publish_back_and_warnings_do_not(t *testing.T) {
	t.Parallel()
	outcome := testFile{store.FileError, "OperationOutcome", []string{
		`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing","diagnostics":"lost"}]}`,
	}, -1}
	warning := outcome
	warning.lines = []string{strings.ReplaceAll(outcome.lines[0], `"error"`, `"warning"`)}
	good := output("Patient", patient("a", "", "1"), patient("b", "", "1"))
	tests := []struct {
		name    string
		files   []testFile
		options func(*store.PublishOptions)
		refused func(error) bool
	}{
		{"errors", []testFile{good, outcome}, nil, isA[*store.PayerErrorsError]},
		{"errors that are accepted", []testFile{good, outcome}, func(o *store.PublishOptions) { o.AcceptErrors = true }, nil},
		{"warnings", []testFile{good, warning}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			testRefusal(t, test.files, test.options, test.refused)
		})
	}
}

func TestMAN5_errors_up_to_a_share_are_published_as_an_incomplete_export(t *testing.T) {
	t.Parallel()
	issue := func(severity string) testFile {
		return testFile{store.FileError, "OperationOutcome", []string{
			`{"resourceType":"OperationOutcome","issue":[{"severity":"` + severity + `","code":"processing"}]}`,
		}, -1}
	}
	good := output("Patient", patient("a", "", "1"), patient("b", "", "1"))
	options := permissive
	options.ErrorsMaxShare = 0.5
	for severity, files := range map[string][]testFile{
		"error": {good, issue("error")}, "error twice": {good, issue("error"), issue("error")}, "fatal": {good, issue("fatal")},
	} {
		t.Run(severity, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			before := output("Patient", patient("a", "", "1"), patient("ghost", "", "1"))
			e := begin(t, s, store.NewExport{}, before)
			stage(t, s, e, before)
			first := options
			first.Watermark = time.Time{}
			if _, err := publish(t, s, e.ID, first); err != nil {
				t.Fatal(err)
			}
			e = begin(t, s, store.NewExport{RemovesGhosts: true}, files...)
			stage(t, s, e, files...)
			_, err := publish(t, s, e.ID, options)
			if isA[*store.PayerErrorsError](err) != (severity != "error") {
				t.Fatalf("got %v", err)
			}
			if since, err := s.Watermark(t.Context(), "p", "", nil); err != nil || !since.IsZero() {
				t.Errorf("the watermark moved to %v, %v", since, err)
			}
			if got := rows(t, s, "fhir.patient"); (len(got) == 3) != (severity == "error") {
				t.Errorf("%d rows stand, and the ghost must stay", len(got))
			}
		})
	}
}

// testRefusal publishes an export that is to be refused, or, with refused nil, not.
func testRefusal(t *testing.T, files []testFile, change func(*store.PublishOptions), refused func(error) bool) {
	t.Helper()
	s := newStore(t)
	e := begin(t, s, store.NewExport{}, files...)
	stage(t, s, e, files...)
	options := permissive
	if change != nil {
		change(&options)
	}
	_, err := publish(t, s, e.ID, options)
	if (refused == nil) != (err == nil) || err != nil && !refused(err) {
		t.Fatalf("got %v", err)
	}
	if since, err := s.Watermark(t.Context(), "p", "", nil); err != nil || since.IsZero() != (refused != nil) {
		t.Errorf("got watermark %v, %v", since, err)
	}
}

func TestPublish_refuses_too_many_bad_lines(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		files   []testFile
		options func(*store.PublishOptions)
		refused func(error) bool
	}{
		{
			"too many bad lines",
			[]testFile{output("Patient", patient("a", "", "1"), "nope")},
			func(o *store.PublishOptions) { o.QuarantineMaxShare = 0.4 }, isA[*store.QuarantineError],
		},
		{
			"a share of bad lines that is permitted",
			[]testFile{output("Patient", patient("a", "", "1"), "nope")},
			func(o *store.PublishOptions) { o.QuarantineMaxShare = 0.5 }, nil,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			testRefusal(t, test.files, test.options, test.refused)
		})
	}
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func TestPublish_refuses_an_unbalanced_ledger(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := output("Patient", patient("a", "", "1"), patient("b", "", "1"))
	e := begin(t, s, store.NewExport{}, file)
	stage(t, s, e, file)
	// A row that vanishes from staging is what a lost chunk would look like.
	if _, err := s.Pool().Exec(t.Context(), fmt.Sprintf(`DELETE FROM ingest_stage.e%d_patient WHERE id = 'a'`, e.ID)); err != nil {
		t.Fatal(err)
	}
	_, err := publish(t, s, e.ID, permissive)
	var unbalanced *store.UnbalancedError
	if !errors.As(err, &unbalanced) || unbalanced.Lines != 2 || unbalanced.Accounted != 1 {
		t.Fatalf("got %v, want 2 lines against 1", err)
	}
}

func TestPublish_twice_is_told_that_it_is_done(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	if _, err := publish(t, s, e.ID, permissive); !store.IsStale(err) {
		t.Errorf("got %v, want to be told that it is over", err)
	}
}

func TestPublish_that_fails_in_the_end_shows_nothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := output("Patient", patient("a", "", "1"))
	e := begin(t, s, store.NewExport{}, file)
	stage(t, s, e, file)
	lease, err := s.LockExport(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	fails := errors.New("the next job could not be enqueued")
	_, err = s.Publish(t.Context(), lease, e.ID, permissive, func(context.Context, pgx.Tx) error { return fails })
	lease.Release(t.Context())
	if !errors.Is(err, fails) {
		t.Fatalf("got %v", err)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 0 {
		t.Errorf("half an export is visible: %v", got)
	}
	if _, err := publish(t, s, e.ID, permissive); err != nil {
		t.Fatalf("the publish cannot be repeated: %v", err)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestPublish_announces_the_export(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	conn, err := s.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `LISTEN `+store.PublishedChannel); err != nil {
		t.Fatal(err)
	}
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n, err := conn.Conn().WaitForNotification(ctx)
	if err != nil || n.Payload != fmt.Sprint(e.ID) {
		t.Errorf("got %v, %v, want export %d", n, err, e.ID)
	}
}

func TestPublish_waits_for_a_reader_no_longer_than_the_lock_timeout(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	tx, err := s.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE fhir.patient__p IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	file := output("Observation", observation("x", "a", "1"))
	e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
	stage(t, s, e, file)
	options := permissive
	options.LockTimeout = 50 * time.Millisecond
	if _, err := publish(t, s, e.ID, options); store.SQLState(err) != "55P03" {
		t.Errorf("got %v, want lock_not_available", err)
	}
}

func TestMAN2_the_watermark_never_moves_back_and_needs_every_type(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	at := func(day int) time.Time { return time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC) }
	publishAt := func(watermark time.Time, types ...string) {
		t.Helper()
		file := output("Patient", patient("a", "", "1"))
		e := begin(t, s, store.NewExport{Series: "s", Types: types}, file)
		stage(t, s, e, file)
		options := permissive
		options.Watermark = watermark
		if _, err := publish(t, s, e.ID, options); err != nil {
			t.Fatal(err)
		}
	}
	want := func(series string, want time.Time, types ...string) {
		t.Helper()
		if got, err := s.Watermark(ctx, "p", series, types); err != nil || !got.Equal(want) {
			t.Errorf("watermark of %v: got %v, %v, want %v", types, got, err, want)
		}
	}
	publishAt(at(2), "Patient")
	want("s", at(2), "Patient")
	want("s", time.Time{}, "Patient", "Observation") // INC-10: a type that is new has no watermark
	want("other", time.Time{}, "Patient")
	publishAt(at(1), "Patient")
	want("s", at(2), "Patient")
	publishAt(time.Time{}, "Patient")
	want("s", at(2), "Patient")
	publishAt(at(3), "Patient", "Observation")
	want("s", at(3), "Patient", "Observation")
}

// completeAt moves the transactionTime of an export that is being loaded.
func completeAt(t *testing.T, s *store.Store, e store.Export, at time.Time) {
	t.Helper()
	_, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET transaction_at = $2 WHERE id = $1`, e.ID, at)
	if err != nil {
		t.Fatal(err)
	}
}

func TestINC4_a_full_export_that_is_older_than_the_last_removes_no_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	may := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	first := output("Patient", patient("a", "", ""), patient("b", "", ""))
	e := begin(t, s, store.NewExport{}, first)
	completeAt(t, s, e, may)
	stage(t, s, e, first)
	if _, err := publish(t, s, e.ID, permissive); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   time.Time
		left int
	}{
		{"a cached job of the day before", may.AddDate(0, 0, -1), 2},
		{"a job that does not say of when it is", time.Time{}, 2},
		{"a job of the same instant", may, 1},
	} {
		file := output("Patient", patient("a", "", ""))
		e := begin(t, s, store.NewExport{RemovesGhosts: true}, file)
		if test.at.IsZero() {
			if _, err := s.Pool().Exec(t.Context(), `UPDATE ingest.export SET transaction_at = NULL WHERE id = $1`, e.ID); err != nil {
				t.Fatal(err)
			}
		} else {
			completeAt(t, s, e, test.at)
		}
		stage(t, s, e, file)
		if _, err := publish(t, s, e.ID, permissive); err != nil {
			t.Fatal(err)
		}
		if got := len(rows(t, s, "fhir.patient")); got != test.left {
			t.Errorf("%s: %d patients are left, want %d", test.name, got, test.left)
		}
	}
}

func TestINC4_what_a_back_fill_of_a_later_instant_brought_is_no_ghost(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	publishAt := func(day int, n store.NewExport, files ...testFile) store.Export {
		t.Helper()
		e := begin(t, s, n, files...)
		completeAt(t, s, e, time.Date(2026, 5, day, 0, 0, 0, 0, time.UTC))
		stage(t, s, e, files...)
		e, err := publish(t, s, e.ID, permissive)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	publishAt(1, store.NewExport{}, output("Patient", patient("a", "", "1")), output("Observation", observation("gone", "a", "1")))
	publishAt(3, store.NewExport{Kind: store.KindBackfill, Patients: []string{"b"}}, output("Observation", observation("of b", "b", "3")))
	// A job that the payer kept from before b joined, yet later than the last export but for the back-fill.
	kept := publishAt(2, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1")))
	wantLedger(t, kept, store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
	if got := rows(t, s, "fhir.observation"); len(got) != 1 || got["of b"].ID == "" {
		t.Errorf("got %v, want what the back-fill brought", got)
	}
	publishAt(4, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1")))
	if got := rows(t, s, "fhir.observation"); len(got) != 0 {
		t.Errorf("got %v, want none: a later export no longer holds them", got)
	}
}

func TestKICK7_an_adopted_export_that_does_not_say_what_was_asked_for_removes_no_ghosts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := output("Patient", patient("a", "", ""), patient("b", "", ""))
	undated := func(n store.NewExport, adopted bool, files ...testFile) store.Export {
		t.Helper()
		e := begin(t, s, n, files...)
		exec(t, s, `UPDATE ingest.export SET transaction_at = NULL, adopted = $2 WHERE id = $1`, e.ID, adopted)
		stage(t, s, e, files...)
		o := permissive
		o.Watermark = time.Time{}
		e, err := publish(t, s, e.ID, o)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	undated(store.NewExport{}, false, first)
	again := output("Patient", patient("a", "", ""))
	wantLedger(t, undated(store.NewExport{RemovesGhosts: true}, true, again), store.Ledger{Lines: 1, Unchanged: 1})
	wantLedger(t, undated(store.NewExport{RemovesGhosts: true}, false, again), store.Ledger{Lines: 1, Unchanged: 1, Ghosts: 1})
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

func TestINC10_ghosts_that_leave_end_the_watermarks_of_other_series(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{Series: "group 1"}, output("Patient", patient("a", "", ""), patient("b", "", "")))
	watermark := func(series string) bool {
		t.Helper()
		at, err := s.Watermark(t.Context(), "p", series, nil)
		if err != nil {
			t.Fatal(err)
		}
		return !at.IsZero()
	}
	run(t, s, store.NewExport{Series: "group 2"}, output("Patient", patient("b", "", "")))
	if !watermark("group 1") {
		t.Error("nothing left, but what was published of the other group counts no more")
	}
	run(t, s, store.NewExport{Series: "group 2", RemovesGhosts: true}, output("Patient", patient("b", "", "")))
	if watermark("group 1") {
		t.Error("a patient of the other group left as a ghost, but an incremental export of that group would not bring it back")
	}
	if !watermark("group 2") {
		t.Error("the series that was published has no watermark")
	}
}

func TestPartitions_of_payers_whose_names_look_like_index_names(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, payer := range []string{"p", "p_pkey", "p_patient_id", "p__x", "a2345678901234567890123456789012345678901", "a2345678901234567890123456789012345678902"} {
		for _, note := range []string{"first", "second"} {
			e := begin(t, s, store.NewExport{Payer: payer}, output("MedicinalProductDefinition"), output("Patient"))
			files := []testFile{
				output("MedicinalProductDefinition", `{"resourceType":"MedicinalProductDefinition","id":"m","x":"`+note+`"}`),
				output("Patient", patient("a", "", note)),
			}
			stage(t, s, e, files...)
			if _, err := publish(t, s, e.ID, permissive); err != nil {
				t.Errorf("payer %s, %s export: %v", payer, note, err)
			}
		}
	}
	var n int
	if err := s.Pool().QueryRow(t.Context(), `SELECT count(*) FROM fhir.patient WHERE resource->>'note' = 'second'`).Scan(&n); err != nil || n != 6 {
		t.Errorf("got %d patients, %v, want one of each of 6 payers", n, err)
	}
}
