package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/verify"
)

const (
	// mostRSS is what an instance may take at the most. Its configuration has small chunks and few downloads, so that this is ample; what
	// grows with the data, or with the troubles, would pass it.
	mostRSS = 256 << 20
	// mostGoroutines is likewise.
	mostGoroutines = 2000
)

// Verdict is what came of it all.
type Verdict struct {
	Seed uint64 `json:"seed"`
	// Troubles are those that were made, by kind, and how often.
	Troubles map[string]int `json:"troubles"`
	// Exports counts exports by the state that they came to.
	Exports map[string]int64 `json:"exports"`
	// Rows is the number of rows that were compared with the payers' data, and found equal.
	Rows int `json:"rows_verified"`
	// Ledgers is the number of certificates that balance.
	Ledgers int `json:"ledgers_balanced"`
	// Assertions and Tokens are the numbers of those that were seen on the wire, and searched for everywhere else in so many bytes.
	Assertions int   `json:"assertions"`
	Tokens     int   `json:"tokens"`
	Searched   int64 `json:"bytes_searched"`
	// PeakRSS is in bytes, of the largest instance; PeakGoroutines likewise.
	PeakRSS        int64 `json:"peak_rss_bytes"`
	PeakGoroutines int64 `json:"peak_goroutines"`
	// JobsLeft are jobs that were left at the payers, whose status URL an instance never came to know.
	JobsLeft int64 `json:"jobs_left_at_payers"`
	// Wrong is everything that is not as it must be; nothing, if all is well.
	Wrong []string `json:"wrong"`
}

func (v *Verdict) wrong(format string, args ...any) {
	v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...))
}

// judge compares everything with everything. The error is a failure to do so.
func (w *world) judge(ctx context.Context, last map[string]int64) (Verdict, error) {
	v := Verdict{Seed: w.options.Seed, Exports: make(map[string]int64)}
	w.mu.Lock()
	v.Troubles = w.counts
	v.PeakRSS, v.PeakGoroutines = int64(w.peaks.rss), int64(w.peaks.goroutines)
	w.mu.Unlock()

	db, err := pgx.Connect(ctx, w.database.direct)
	if err != nil {
		return v, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	for _, check := range []func(context.Context, *pgx.Conn, map[string]int64, *Verdict) error{
		w.checkRows, w.checkLedgers, w.checkControl, w.checkWire, w.checkSecrets,
	} {
		if err := check(ctx, db, last, &v); err != nil {
			return v, err
		}
	}
	for _, i := range w.instances {
		v.Wrong = append(v.Wrong, i.surprises...)
	}
	if v.PeakRSS == 0 || v.PeakRSS > mostRSS {
		v.wrong("an instance took %d MiB of memory, want at most %d and some", v.PeakRSS>>20, mostRSS>>20)
	}
	if v.PeakGoroutines > mostGoroutines {
		v.wrong("an instance had %d goroutines, want at most %d", v.PeakGoroutines, mostGoroutines)
	}
	return v, nil
}

// checkRows compares every row with what the payers hold, both ways.
func (w *world) checkRows(ctx context.Context, db *pgx.Conn, last map[string]int64, v *Verdict) error {
	for _, p := range w.payers {
		var state, code string
		err := db.QueryRow(ctx, `SELECT state, error_code FROM ingest.export WHERE id = $1`, last[p.name]).Scan(&state, &code)
		if err != nil {
			return fmt.Errorf("read the last export of %s: %w", p.name, err)
		}
		if state != "published" {
			v.wrong("payer %s: its last export, undisturbed, is %s (%s)", p.name, state, code)
			continue
		}
		want, err := p.held()
		if err != nil {
			return err
		}
		right, wrong, err := verify.Payer(ctx, db, "fhir", p.name, want)
		if err != nil {
			return fmt.Errorf("compare payer %s: %w", p.name, err)
		}
		for _, n := range right {
			v.Rows += n
		}
		for _, difference := range wrong {
			v.wrong("payer %s: %s", p.name, difference)
		}
	}
	return nil
}

// checkLedgers wants the certificate of every published export to balance.
func (w *world) checkLedgers(ctx context.Context, db *pgx.Conn, _ map[string]int64, v *Verdict) error {
	rows, err := db.Query(ctx, `SELECT state, count(*) FROM ingest.export GROUP BY state`)
	if err != nil {
		return fmt.Errorf("count the exports: %w", err)
	}
	var state string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error { v.Exports[state] = n; return nil }); err != nil {
		return fmt.Errorf("count the exports: %w", err)
	}
	rows, err = db.Query(ctx, `SELECT id FROM ingest.export WHERE state = 'published' ORDER BY id`)
	if err != nil {
		return fmt.Errorf("list the exports: %w", err)
	}
	published, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("list the exports: %w", err)
	}
	for _, id := range published {
		out, err := w.operate(ctx, "exports", "certificate", strconv.FormatInt(id, 10), "--output", "json")
		if err != nil {
			return err
		}
		var certificate struct {
			Ledger struct {
				Balanced bool `json:"balanced"`
			} `json:"ledger"`
		}
		if err := json.Unmarshal(out, &certificate); err != nil {
			return fmt.Errorf("read a certificate: %w", err)
		}
		if !certificate.Ledger.Balanced {
			v.wrong("export %d: its ledger does not balance", id)
			continue
		}
		v.Ledgers++
	}
	return nil
}

// nothing are queries that must yield 0.
var nothing = []struct{ what, sql string }{
	{"ticks that started two exports", `SELECT count(*) FROM (SELECT FROM ingest.export WHERE due_at IS NOT NULL AND trigger = 'schedule'
		GROUP BY payer, due_at HAVING count(*) > 1) AS x`},
	{"staging tables of exports that are over", `SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'ingest_stage' AND c.relkind = 'r'`},
	{"published files that are not loaded", `SELECT count(*) FROM ingest.export AS e JOIN ingest.export_file AS f ON f.export_id = e.id
		WHERE e.state = 'published' AND f.state <> 'loaded'`},
	{"exports that are over and not cleaned up", `SELECT count(*) FROM ingest.export
		WHERE state IN ` + over + ` AND status_url <> '' AND cleaned_up_at IS NULL`},
	{"advisory locks that nobody should hold", `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (
		SELECT oid FROM pg_database WHERE datname = current_database()) AND granted AND pid NOT IN (SELECT pid FROM pg_stat_activity)`},
}

// checkControl looks for what should not be in the tables that control the work.
func (w *world) checkControl(ctx context.Context, db *pgx.Conn, _ map[string]int64, v *Verdict) error {
	for _, check := range nothing {
		var n int64
		if err := db.QueryRow(ctx, check.sql).Scan(&n); err != nil {
			return fmt.Errorf("look for %s: %w", check.what, err)
		}
		if n != 0 {
			v.wrong("%d %s", n, check.what)
		}
	}
	return nil
}

// checkWire judges what passed on the wire.
func (w *world) checkWire(_ context.Context, _ *pgx.Conn, _ map[string]int64, v *Verdict) error {
	v.Assertions, v.Tokens = len(w.witness.assertions), len(w.witness.tokens)
	if n := w.witness.reused(); n > 0 {
		v.wrong("%d jtis of client assertions were sent more than once", n)
	}
	if w.witness.abroad > 0 {
		v.wrong("%d access tokens were sent to an origin that is not the payer's", w.witness.abroad)
	}
	for _, p := range w.payers {
		v.JobsLeft += p.sim.Stats().OpenJobs
	}
	return nil
}

// controlText is everything that the control tables hold in words. The resources, their history and the quarantine are what patients' data belong in.
var controlText = []string{
	`SELECT to_jsonb(e) - 'patients' FROM ingest.export AS e`, `SELECT to_jsonb(f) FROM ingest.export_file AS f`,
	`SELECT to_jsonb(a) FROM ingest.audit_event AS a`, `SELECT to_jsonb(t) FROM ingest.tick AS t`,
	`SELECT jsonb_build_object('args', args, 'errors', errors, 'metadata', metadata) FROM river.river_job`,
}

// checkSecrets searches all that was printed and noted for what must be nowhere.
func (w *world) checkSecrets(ctx context.Context, db *pgx.Conn, _ map[string]int64, v *Verdict) error {
	var patients []string
	for _, p := range w.payers {
		data, err := patientData(ctx, p.sim)
		if err != nil {
			return err
		}
		patients = append(patients, data...)
	}
	slices.Sort(patients)
	patients = slices.Compact(patients)
	search := func(where string, text []byte) {
		v.Searched += int64(len(text))
		for _, found := range w.witness.leaks(text, patients) {
			v.wrong("%s holds %s", where, found)
		}
	}
	for _, i := range w.instances {
		log, err := os.ReadFile(i.log)
		if err != nil {
			return fmt.Errorf("read the log of instance %d: %w", i.number, err)
		}
		search(fmt.Sprintf("the log of instance %d", i.number), log)
		if strings.Contains(string(log), "\ngoroutine ") || strings.Contains(string(log), "panic:") {
			v.wrong("instance %d panicked: see %s", i.number, i.log)
		}
	}
	w.mu.Lock()
	for by, lines := range w.printed {
		var text strings.Builder
		for line := range lines {
			text.WriteString(line)
		}
		search("what "+by+" printed", []byte(text.String()))
	}
	w.mu.Unlock()
	for _, sql := range controlText {
		rows, err := db.Query(ctx, `SELECT x::text FROM (`+sql+`) AS t (x)`)
		if err != nil {
			return fmt.Errorf("read the control tables: %w", err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("read the control tables: %w", err)
		}
		_, table, _ := strings.Cut(sql, " FROM ")
		search("the table "+table, []byte(strings.Join(lines, "\n")))
	}
	return nil
}
