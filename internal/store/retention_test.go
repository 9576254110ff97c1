package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/store"
)

const day = 24 * time.Hour

// past records an export of a payer that was published some days ago and is cleaned up; set changes that, as SQL.
func past(t *testing.T, s *store.Store, payer string, days int, set string) int64 {
	t.Helper()
	var id int64
	err := s.Pool().QueryRow(t.Context(), `
		INSERT INTO ingest.export (payer, kind, trigger, series, state, created_at, manifest_at, finished_at, cleaned_up_at)
		SELECT $1, 'incremental', 'schedule', 's', 'published', at, at, at, at FROM (SELECT now() - make_interval(days => $2) AS at) AS ended
		RETURNING id`, payer, days).Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	if set != "" {
		exec(t, s, `UPDATE ingest.export SET `+set+` WHERE id = $1`, id)
	}
	return id
}

// recent records as many exports of a payer that were canceled today as are kept whatever their age.
func recent(t *testing.T, s *store.Store, payer string) {
	t.Helper()
	for range store.KeptExports {
		past(t, s, payer, 0, `state = 'canceled'`)
	}
}

// age makes an export, which is over, one of some days ago.
func age(t *testing.T, s *store.Store, id int64, days int) {
	t.Helper()
	exec(t, s, `UPDATE ingest.export SET cleaned_up_at = finished_at - make_interval(days => $2), created_at = created_at - make_interval(days => $2),
		kicked_off_at = kicked_off_at - make_interval(days => $2), manifest_at = manifest_at - make_interval(days => $2),
		finished_at = finished_at - make_interval(days => $2) WHERE id = $1`, id, days)
	exec(t, s, `UPDATE ingest.quarantine SET created_at = created_at - make_interval(days => $2) WHERE export_id = $1`, id, days)
}

func exec(t *testing.T, s *store.Store, sql string, args ...any) {
	t.Helper()
	if _, err := s.Pool().Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// ids are the numbers of a payer's exports.
func ids(t *testing.T, s *store.Store, payer string) []int64 {
	t.Helper()
	found, err := s.Pool().Query(t.Context(), `SELECT id FROM ingest.export WHERE payer = $1 ORDER BY id`, payer)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(found, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// prune prunes until nothing is left, and returns what it deleted.
func prune(t *testing.T, s *store.Store, r store.Retention) map[string]int64 {
	t.Helper()
	rows := make(map[string]int64)
	complete, err := s.Prune(t.Context(), store.PruneOptions{Retention: r, Pruned: func(table string, n int64) { rows[table] += n }})
	if err != nil || !complete {
		t.Fatalf("complete %t: %v", complete, err)
	}
	return rows
}

func TestRetention_an_old_export_goes_with_all_that_hangs_on_it(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), "not JSON"), output("Observation", observation("o", "a", "1")))
	exec(t, s, `INSERT INTO ingest.outcome (export_id, severity) SELECT $1, 'warning' FROM generate_series(1, 3)`, old.ID)
	exec(t, s, `INSERT INTO ingest.attachment (export_id, resource_type, resource_id, path, url, requires_token, state)
		VALUES ($1, 'DocumentReference', 'd', '{content}', 'https://payer.example/d', false, 'published')`, old.ID)
	age(t, s, old.ID, 100)
	young := run(t, s, store.NewExport{}, output("Patient", patient("b", "", "1"), "not JSON"))
	exec(t, s, `UPDATE ingest.watermark SET export_id = $1`, young.ID)
	exec(t, s, `UPDATE ingest.export SET cleaned_up_at = now()`)
	recent(t, s, "p")
	before := rows(t, s, "fhir.patient")

	if got := prune(t, s, store.Retention{}); len(got) != 0 {
		t.Fatalf("pruned %v although everything is to be kept", got)
	}
	got := prune(t, s, store.Retention{Exports: 30 * day})
	want := map[string]int64{"export": 1, "export_file": 2, "export_type": 2, "outcome": 3, "attachment": 1, "quarantine": 1}
	if !maps.Equal(got, want) {
		t.Errorf("pruned %v, want %v", got, want)
	}
	for _, table := range []string{"export_file", "export_type", "outcome", "attachment", "quarantine"} {
		if n := count(t, s, `SELECT count(*) FROM ingest.`+table+` WHERE export_id = $1`, old.ID); n != 0 {
			t.Errorf("%d rows of ingest.%s are left", n, table)
		}
	}
	if n := count(t, s, `SELECT count(*) FROM ingest.quarantine WHERE export_id = $1`, young.ID); n != 1 {
		t.Errorf("%d quarantined lines of the young export are left, want 1", n)
	}
	if after := rows(t, s, "fhir.patient"); !maps.Equal(after, before) {
		t.Errorf("resources changed:\n%v\n%v", before, after)
	}
	events, err := s.AuditEvents(t.Context(), store.AuditFilter{Action: store.ActionPrune}, 10)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v, want one of the quarantine and one of the exports", len(events), err)
	}
	if d := events[0].Details; d["export"] != 1.0 || d["export_file"] != 2.0 || d["first"] != float64(old.ID) || events[1].Details["quarantine"] != 1.0 {
		t.Errorf("the audit says %v", d)
	}
	if got := prune(t, s, store.Retention{Exports: 30 * day}); len(got) != 0 {
		t.Errorf("pruned %v again", got)
	}
}

func TestRetention_keeps_whatever_its_age(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	type export struct {
		days  int
		set   string
		stays bool
	}
	const failed = `state = 'failed'`
	cases := []struct {
		payer   string
		exports []export
		then    string // SQL with the numbers of the exports as $1
	}{
		{"newest_published", []export{{100, "", false}, {90, "", true}, {80, failed, false}}, ""},
		{"backfills_apart", []export{{100, "", true}, {90, `kind = 'backfill'`, false}}, ""},
		{"freshest", []export{
			{110, `transaction_at = '2020-01-01'`, false}, {100, `transaction_at = '2020-01-03'`, true}, {90, `transaction_at = '2020-01-02'`, true},
		}, ""},
		{"freshest_by_both_clocks", []export{
			{110, `transaction_at = now() - interval '110 days'`, false},
			{100, `transaction_at = now() + interval '10 years'`, true}, // by the transactionTime alone
			{95, `transaction_at = now() - interval '96 days'`, true},   // by the manifest, too
			{90, "", true},
		}, ""},
		{"always_the_same_instant", []export{{100, `transaction_at = '2020-01-01'`, false}, {90, `transaction_at = '2020-01-01'`, true}}, ""},
		{"newest_full", []export{
			{120, `kind = 'full'`, false}, {110, `kind = 'full'`, true}, {105, `kind = 'full', state = 'failed'`, false}, {100, "", false}, {90, "", true},
		}, ""},
		{"full_of_new_types", []export{
			{120, `kind = 'full'`, true}, {110, `kind = 'full', trigger = 'new_types'`, true}, {100, "", false}, {90, "", true},
		}, ""},
		{"not_over", []export{{100, `state = 'held', finished_at = NULL, cleaned_up_at = NULL`, true}, {90, "", true}}, ""},
		{"ended_lately", []export{{100, `finished_at = now() - interval '10 days'`, true}, {95, "", false}, {90, "", true}}, ""},
		{"not_cleaned_up", []export{{100, `state = 'failed', cleaned_up_at = NULL`, true}, {95, failed, false}, {90, "", true}}, ""},
		{
			"watermark",
			[]export{{100, "", true}, {95, "", false}, {90, "", true}},
			`INSERT INTO ingest.watermark (payer, series, resource_type, since, export_id) VALUES ('watermark', 's', '', now(), ($1::bigint[])[1])`,
		},
		{
			"incident",
			[]export{{110, failed, false}, {100, failed, true}, {90, "", true}},
			`INSERT INTO ingest.incident (payer, event, export_id, closed_at) VALUES
				('incident', 'held', ($1::bigint[])[1], now()), ('incident', 'failed', ($1::bigint[])[2], NULL)`,
		},
		{"never_published", []export{{100, failed, true}, {90, failed, false}}, ""},
		{"young", []export{{35, "", false}, {29, "", true}, {28, "", true}}, ""},
	}
	want := make(map[string][]int64)
	// Exports of all payers are numbered in the order in which they were recorded.
	for _, c := range cases {
		var all []int64
		for _, x := range c.exports {
			id := past(t, s, c.payer, x.days, x.set)
			if all = append(all, id); x.stays {
				want[c.payer] = append(want[c.payer], id)
			}
		}
		if c.then != "" {
			exec(t, s, c.then, all)
		}
	}
	// Of a payer that rests, all of the last are old.
	want["last"] = append(want["last"], past(t, s, "last", 100, ""))
	past(t, s, "last", 99, failed)
	for range store.KeptExports {
		want["last"] = append(want["last"], past(t, s, "last", 98, failed))
	}
	for _, c := range cases {
		recent(t, s, c.payer)
		want[c.payer] = append(want[c.payer], ids(t, s, c.payer)[len(c.exports):]...)
	}

	for range 2 { // what stays makes nothing else go
		prune(t, s, store.Retention{Exports: 30 * day})
		for payer, wanted := range want {
			if got := ids(t, s, payer); !slices.Equal(got, wanted) {
				t.Errorf("%s: got %v, want %v", payer, got, wanted)
			}
		}
	}
}

func TestRetention_of_the_quarantine_may_be_shorter_and_changes_no_certificate(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	e := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), "not JSON"))
	age(t, s, e.ID, 10)
	before, err := s.Certificate(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := prune(t, s, store.Retention{Exports: 30 * day, Quarantine: 11 * day}); len(got) != 0 {
		t.Errorf("pruned %v", got)
	}
	if got := prune(t, s, store.Retention{Quarantine: 9 * day}); !maps.Equal(got, map[string]int64{"quarantine": 1}) {
		t.Errorf("pruned %v, want the line", got)
	}
	after, err := s.Certificate(t.Context(), e.ID)
	if err != nil || after.Digest != before.Digest || !after.Ledger.Balanced || after.Ledger.Quarantined != 1 {
		t.Errorf("the certificate was\n%+v, and is, %v,\n%+v", before, err, after)
	}
}

func TestRetention_brings_nothing_back_that_was_deleted(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	full := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), `{"resourceType":"Patient","id":"d","note":"\u0000"}`))
	age(t, s, full.ID, 100)
	gone := run(t, s, store.NewExport{Kind: store.KindIncremental}, testFile{store.FileDeleted, "", []string{
		`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/d"}}]}`,
	}, -1})
	age(t, s, gone.ID, 90)
	o := store.RetryOptions{History: "all", RepairText: true}
	if _, err := s.RetryQuarantine(t.Context(), full.ID, o); !errors.Is(err, store.ErrOvertaken) {
		t.Fatalf("got %v, want that the deletion is known", err)
	}
	past(t, s, "p", 0, `transaction_at = now()`)
	recent(t, s, "p")
	exec(t, s, `UPDATE ingest.watermark SET export_id = 0`)

	// A round that ends early has not deleted the export with the deletions before the line.
	left := 1
	if _, err := s.Prune(t.Context(), store.PruneOptions{
		Retention: store.Retention{Exports: 30 * day}, Batch: 1, Proceed: func() bool { left--; return left >= 0 },
	}); err != nil {
		t.Fatal(err)
	}
	prune(t, s, store.Retention{Exports: 30 * day})
	if got := ids(t, s, "p"); !slices.Contains(got, full.ID) || slices.Contains(got, gone.ID) {
		t.Fatalf("got %v, want %d and not %d", got, full.ID, gone.ID)
	}
	if result, err := s.RetryQuarantine(t.Context(), full.ID, o); err != nil || result.Inserted != 0 {
		t.Errorf("got %+v, %v, want that nothing is loaded", result, err)
	}
	if got := rows(t, s, "fhir.patient"); len(got) != 1 {
		t.Errorf("got %v, want a alone", got)
	}
}

func TestRetention_lets_no_older_job_replace_what_a_pruned_export_published(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "new"), patient("b", "", "new")))
	age(t, s, old.ID, 100)
	exec(t, s, `UPDATE fhir.patient SET ingested_at = ingested_at - interval '100 days'`)
	exec(t, s, `UPDATE ingest.export SET transaction_at = now() - interval '101 days'`)
	past(t, s, "p", 0, `kind = 'full', transaction_at = now()`)
	recent(t, s, "p")
	exec(t, s, `UPDATE ingest.watermark SET export_id = 0`)
	prune(t, s, store.Retention{Exports: 30 * day})
	if slices.Contains(ids(t, s, "p"), old.ID) {
		t.Fatal("the export was not pruned")
	}
	late := func(days int, files ...testFile) store.Export {
		t.Helper()
		e := begin(t, s, store.NewExport{Kind: store.KindIncremental}, files...)
		exec(t, s, `UPDATE ingest.export SET transaction_at = now() - make_interval(days => $2) WHERE id = $1`, e.ID, days)
		stage(t, s, e, files...)
		e, err := publish(t, s, e.ID, permissive)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	deletion := testFile{store.FileDeleted, "", []string{
		`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/b"}}]}`,
	}, -1}
	e := late(200, output("Patient", patient("a", "", "older")), deletion)
	if e.Updated != 0 || e.Superseded != 1 || e.Deleted != 0 {
		t.Errorf("a job of before: got %+v, want that what is published stays", e.Ledger)
	}
	e = late(50, output("Patient", patient("a", "", "newer")), deletion)
	if e.Updated != 1 || e.Deleted != 1 {
		t.Errorf("a job of after: got %+v, want that it is published", e.Ledger)
	}
}

func TestRetention_tells_what_is_gone_from_what_never_was(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1")))
	age(t, s, old.ID, 100)
	past(t, s, "p", 0, `kind = 'full', transaction_at = now()`)
	recent(t, s, "p")
	exec(t, s, `UPDATE ingest.watermark SET export_id = 0`)
	prune(t, s, store.Retention{Exports: 30 * day})
	for _, ask := range []func() error{
		func() error { _, err := s.Export(t.Context(), old.ID); return err },
		func() error { _, err := s.Certificate(t.Context(), old.ID); return err },
		func() error { _, err := s.RetryQuarantine(t.Context(), old.ID, store.RetryOptions{}); return err },
	} {
		var gone *store.GoneError
		if err := ask(); !errors.As(err, &gone) || !errors.Is(err, store.ErrNoExport) || gone.Payer != "p" || gone.Removed {
			t.Errorf("pruned: got %v", err)
		}
	}
	var gone *store.GoneError
	if _, err := s.Export(t.Context(), 1_000_000); errors.As(err, &gone) || !errors.Is(err, store.ErrNoExport) {
		t.Errorf("never there: got %v", err)
	}
	if _, err := s.RemovePayer(t.Context(), "p", store.Actor{Name: "an operator"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Export(t.Context(), old.ID); !errors.As(err, &gone) || !gone.Removed {
		t.Errorf("removed: got %v", err)
	}
}

func TestRetention_of_the_history_deletes_versions_by_when_they_ended(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	history := permissive
	history.History = "all"
	for i := range 4 {
		files := []testFile{output("Patient", patient("a", "", fmt.Sprint(i)), patient("b", "", fmt.Sprint(i)))}
		e := begin(t, s, store.NewExport{}, files...)
		stage(t, s, e, files...)
		if _, err := publish(t, s, e.ID, history); err != nil {
			t.Fatal(err)
		}
		exec(t, s, `UPDATE fhir_history.patient SET valid_to = valid_to - interval '10 days'`) // the first ended 20 days before the last
	}
	valid := func() int {
		return count(t, s, `SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('fhir_history.patient_history_valid_to')`)
	}
	if got := prune(t, s, store.Retention{Exports: 365 * day}); len(got) != 0 || valid() != 0 {
		t.Errorf("without a retention of the history: pruned %v, %d indexes", got, valid())
	}
	if got := prune(t, s, store.Retention{History: 25 * day}); !maps.Equal(got, map[string]int64{"history": 2}) || valid() != 1 {
		t.Errorf("pruned %v, %d indexes, want the two versions of the first", got, valid())
	}
	exec(t, s, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'fhir_history.patient_history_valid_to'::regclass`) // a broken build
	total := int64(0)
	complete, err := s.Prune(t.Context(), store.PruneOptions{
		Retention: store.Retention{History: 15 * day}, Batch: 1, Pruned: func(_ string, n int64) { total += n },
	})
	if err != nil || !complete || total != 2 || valid() != 1 {
		t.Errorf("complete %t, %v, pruned %d, %d indexes, want the two versions of the second, and the index built again", complete, err, total, valid())
	}
	if n := count(t, s, `SELECT count(*) FROM fhir_history.patient`); n != 2 {
		t.Errorf("%d versions are left, want the two of the third", n)
	}
	if n := len(rows(t, s, "fhir.patient")); n != 2 {
		t.Errorf("%d patients are published, want 2", n)
	}
}

func TestRetention_is_within_the_rights_of_the_ingest_role(t *testing.T) {
	t.Parallel()
	at := separated(t, split)
	s := openAs(t, at, ingestRole)
	old := run(t, s, store.NewExport{}, output("Patient", patient("a", "", "1"), patient("b", "", "1"), "not JSON"))
	run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", patient("a", "", "1")))
	age(t, s, old.ID, 100)
	exec(t, s, `UPDATE ingest.export SET cleaned_up_at = now()`)
	exec(t, s, `UPDATE ingest.watermark SET export_id = 0`)
	exec(t, s, `UPDATE fhir_history.patient SET valid_to = valid_to - interval '100 days'`)
	recent(t, s, "p")
	got := prune(t, s, store.Retention{Exports: 30 * day, History: 30 * day})
	want := map[string]int64{"export": 1, "export_file": 1, "export_type": 1, "quarantine": 1, "history": 1}
	if !maps.Equal(got, want) {
		t.Errorf("pruned %v, want %v", got, want)
	}
	if n := count(t, s, `SELECT count(*) FROM ingest.audit_event WHERE action = 'prune' AND database_role = $1`, ingestRole); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

func TestRetention_leaves_the_next_since_where_it_was(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := run(t, s, store.NewExport{Series: "s"}, output("Patient", patient("a", "", "1")))
	age(t, s, old.ID, 100)
	past(t, s, "p", 0, `kind = 'full', transaction_at = '2026-01-02'`)
	recent(t, s, "p")
	exec(t, s, `UPDATE ingest.watermark SET export_id = export_id + 1`)
	before, err := s.Watermark(t.Context(), "p", "s", nil)
	if err != nil || before.IsZero() {
		t.Fatal(before, err)
	}
	states, err := s.PayerStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := prune(t, s, store.Retention{Exports: 30 * day}); got["export"] != 1 {
		t.Fatalf("pruned %v", got)
	}
	if after, err := s.Watermark(t.Context(), "p", "s", nil); err != nil || !after.Equal(before) {
		t.Errorf("the watermark was %s and is %s, %v", before, after, err)
	}
	after, err := s.PayerStates(t.Context())
	if err != nil || !after["p"].FreshAt.Equal(states["p"].FreshAt) || after["p"].Published.ID != states["p"].Published.ID || after["p"].Last.ID != states["p"].Last.ID {
		t.Errorf("the payer's state was %+v and is, %v, %+v", states["p"], err, after["p"])
	}
}

func TestRetention_goes_by_the_earlier_of_two_clocks(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	past(t, s, "p", 100, "")
	past(t, s, "p", 0, "")
	recent(t, s, "p")
	for _, c := range []struct {
		host time.Duration // against the database's clock
		want int64
	}{{-80 * day, 0}, {80 * day, 1}} {
		var rows int64
		_, err := s.Prune(t.Context(), store.PruneOptions{
			Retention: store.Retention{Exports: 30 * day}, Pruned: func(_ string, n int64) { rows += n },
			Now: func() time.Time { return time.Now().Add(c.host) },
		})
		if err != nil || rows != c.want {
			t.Errorf("a host's clock that is %s off: pruned %d, %v, want %d", c.host, rows, err, c.want)
		}
	}
	if got := ids(t, s, "p"); len(got) != store.KeptExports+1 {
		t.Errorf("%d exports are left: what is recent to the database went by the host's clock", len(got))
	}
}
