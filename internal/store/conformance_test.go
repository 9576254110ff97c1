package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ingestd/internal/fhir"
	"ingestd/internal/store"
)

// count is the number that a query returns.
func count(t *testing.T, s *store.Store, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := s.Pool().QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func TestND3_lines_of_another_type_are_quarantined_and_outcomes_are_outcomes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Patient",
		patient("a", "", "1"), observation("o", "a", "1"),
		`{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"informational","diagnostics":"so"}]}`,
		`{"resourceType":"Patient","id":"b","contained":[{"resourceType":"Observation","id":"in"}]}`,
	))
	if e.Lines != 4 || e.Inserted != 2 || e.Quarantined != 1 {
		t.Errorf("got %+v, want two Patients, one bad line and one outcome", e.Ledger)
	}
	if n := count(t, s, `SELECT count(*) FROM ingest.quarantine WHERE reason = $1 AND resource_type = 'Observation' AND line = 2`,
		store.ReasonTypeMismatch); n != 1 {
		t.Errorf("the Observation is not in the quarantine: %d", n)
	}
	if n := count(t, s, `SELECT count(*) FROM ingest.outcome WHERE severity = 'warning' AND diagnostics = 'so'`); n != 1 {
		t.Errorf("got %d outcomes, want one", n)
	}
	// Where the manifest does not say which type a file has, any is right.
	s = newStore(t)
	if e := run(t, s, store.NewExport{}, output("", patient("a", "", "1"), observation("o", "a", "1"))); e.Inserted != 2 || e.Quarantined != 0 {
		t.Errorf("a file of many types: %+v", e.Ledger)
	}
}

func TestND5_content_is_kept_and_what_jsonb_cannot_hold_is_quarantined_unaltered(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	kept := map[string]string{
		"decimal": "1.00", "small": "0.0000000000000000000001", "long": "123456789012345678901234567890", "negative": "-0.50",
		"text": `"a\tb\"\\ \u00e9 \u2028 \ud83d\ude00"`, "unknown": `{"x": [null, true, []]}`,
		"repeated": `{"a": 1, "a": 2}`,
	}
	var lines []string
	for id, value := range kept {
		lines = append(lines, fmt.Sprintf(`{"resourceType":"Patient","id":%q,"v":%s}`, id, value))
	}
	bad := map[string]fhir.Reason{
		`{"resourceType":"Patient","id":"nul","v":"a\u0000b"}`:                                                         fhir.ReasonNUL,
		`{"resourceType":"Patient","id":"lone","v":"\udc00"}`:                                                          fhir.ReasonLoneSurrogate,
		"{\"resourceType\":\"Patient\",\"id\":\"utf8\",\"v\":\"a\xc3\x28\"}":                                           fhir.ReasonInvalidUTF8,
		`{"resourceType":"Patient","id":"deep","v":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`: "",
	}
	for line := range bad {
		lines = append(lines, line)
	}
	e := run(t, s, store.NewExport{}, output("Patient", lines...))
	if e.Inserted != int64(len(kept)) || e.Quarantined != int64(len(bad)) {
		t.Errorf("got %+v, want %d good and %d bad lines", e.Ledger, len(kept), len(bad))
	}
	for id, value := range kept {
		if n := count(t, s, `SELECT count(*) FROM fhir.patient WHERE id = $1 AND (resource -> 'v')::text = $2::jsonb::text`, id, value); n != 1 {
			t.Errorf("%s is not kept as %s", id, value)
		}
	}
	for _, id := range []string{"decimal", "small", "long", "negative"} { // compared as text, without jsonb on both sides
		if n := count(t, s, `SELECT count(*) FROM fhir.patient WHERE id = $1 AND resource ->> 'v' = $2`, id, kept[id]); n != 1 {
			t.Errorf("the number %s is not kept as %s", id, kept[id])
		}
	}
	for line, reason := range bad {
		if n := count(t, s, `SELECT count(*) FROM ingest.quarantine WHERE raw = $1 AND (reason = $2 OR $2 = '')`, []byte(line), string(reason)); n != 1 {
			t.Errorf("%.60q is not in the quarantine as it came, for %s", line, reason)
		}
	}
}

func TestND2_bad_lines_are_quarantined_with_file_and_line_and_odd_ids_are_taken(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	good := []string{patient("-10000000000001", "", "1"), patient("under_score", "", "1"), patient(strings.Repeat("x", 255), "", "1")}
	bad := []string{`[]`, `7`, `"x"`, `{}`, patient("a", "", "1") + patient("b", "", "1"), `{"resourceType":"Patient"}`, patient(strings.Repeat("x", 300), "", "1")}
	e := run(t, s, store.NewExport{}, output("Patient", append(append([]string{}, good...), bad...)...))
	if e.Inserted != int64(len(good)) || e.Quarantined != int64(len(bad)) {
		t.Errorf("got %+v, want %d good and %d bad lines", e.Ledger, len(good), len(bad))
	}
	for i, line := range bad {
		if n := count(t, s, `SELECT count(*) FROM ingest.quarantine WHERE file = 0 AND line = $1 AND raw = $2`, len(good)+i+1, []byte(line)); n != 1 {
			t.Errorf("%.60q is not in the quarantine with its line", line)
		}
	}
}

func TestINC2_a_resource_in_three_runs_is_one_row_with_one_history_entry(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	all := permissive
	all.History = "all"
	for i, note := range []string{"1", "2", "2"} {
		file := output("Patient", patient("a", "", note), patient("b", "", "same"))
		e := begin(t, s, store.NewExport{Kind: store.KindIncremental}, file)
		stage(t, s, e, file)
		e, err := publish(t, s, e.ID, all)
		if err != nil {
			t.Fatal(err)
		}
		if want := []int64{0, 1, 2}[i]; e.Unchanged != want {
			t.Errorf("run %d found %d unchanged, want %d", i, e.Unchanged, want)
		}
		if err := s.DropStaging(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(rows(t, s, "fhir.patient")); n != 2 {
		t.Errorf("got %d rows, want two", n)
	}
	if n := count(t, s, `SELECT count(*) FROM fhir_history.patient`); n != 1 {
		t.Errorf("got %d history entries, want the one of the version that was replaced", n)
	}
}

func TestDEL3_what_nobody_told_to_be_deleted_stays_until_a_full_run_misses_it(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("gone", "", "1")))
	run(t, s, store.NewExport{Kind: store.KindIncremental}, output("Patient", patient("a", "", "2")))
	if _, ok := rows(t, s, "fhir.patient")["gone"]; !ok {
		t.Fatal("an incremental export without deletions removed what it did not hold")
	}
	e := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "2")))
	if _, ok := rows(t, s, "fhir.patient")["gone"]; ok || e.Ghosts != 1 {
		t.Errorf("the full export found %d ghosts, want the one", e.Ghosts)
	}
}

func TestKICK10_the_words_of_an_issue_are_kept_wherever_they_stand(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var lines []string
	for _, issue := range []string{
		`"details":{"text":"_since was ignored"},"diagnostics":"request 42"`, `"details":{"text":"_type was ignored"}`,
		`"diagnostics":"_until was ignored"`, `"details":{"text":"_elements"},"diagnostics":"_elements was ignored"`, `"diagnostics":"xsince"`,
	} {
		lines = append(lines, `{"resourceType":"OperationOutcome","issue":[{"severity":"warning",`+issue+`}]}`)
	}
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")), testFile{store.FileError, "OperationOutcome", lines, -1})
	for name, want := range map[string][]string{
		"_since": {"_since was ignored: request 42"}, "_TYPE": {"_type was ignored"}, "_until": {"_until was ignored"},
		"_elements": {"_elements was ignored"}, "%": nil,
	} {
		got, err := s.OutcomesNaming(t.Context(), e.ID, []string{name})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
}
