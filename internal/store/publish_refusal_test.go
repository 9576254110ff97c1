package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ingestd/internal/store"
)

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
