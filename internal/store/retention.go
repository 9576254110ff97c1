package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// KeptExports is how many of each payer's newest exports are kept, however old: as many as the status page shows.
const KeptExports = 30

// Retention says how long what is over is kept.
type Retention struct {
	// Exports is how long an export is kept after its end, with its files and ledgers; 0 is for ever.
	Exports time.Duration
	// Quarantine is how long quarantined lines are kept after the end of their export; 0 is as long as Exports, and never longer.
	Quarantine time.Duration
	// History is how long earlier versions of resources are kept after they were replaced or removed; 0 is for ever.
	History time.Duration
}

// The names under which pruned rows are counted.
const (
	prunedExport       = "export"
	prunedFile         = "export_file"
	prunedType         = "export_type"
	prunedOutcome      = "outcome"
	prunedAttachment   = "attachment"
	prunedQuarantine   = "quarantine"
	prunedHistory      = "history"
	PrunedTick         = "tick"         // by PruneTicks
	PrunedNotification = "notification" // by PruneNotifications
	PrunedIncident     = "incident"     // by PruneIncidents
	PrunedSettings     = "settings"     // by PruneSettings
)

// PrunedTables are the names under which pruned rows are counted. The history is one, of all resource types.
func PrunedTables() []string {
	return []string{
		prunedExport, prunedFile, prunedType, prunedOutcome, prunedAttachment, prunedQuarantine, prunedHistory,
		PrunedTick, PrunedNotification, PrunedIncident, PrunedSettings,
	}
}

// PruneOptions are what a round of pruning needs.
type PruneOptions struct {
	Retention Retention
	// Batch is how many rows a transaction deletes, more or less; 5,000 if 0.
	Batch int
	// Proceed is asked before each transaction: false ends the round. nil goes on until nothing is left.
	Proceed func() bool
	// Pruned is told what each transaction has deleted.
	Pruned func(table string, rows int64)
	// Now is the host's clock; time.Now if nil.
	Now func() time.Time
}

// defaultPruneBatch makes transactions of a few tens of milliseconds.
const defaultPruneBatch = 5000

// beginPrune begins a transaction that waits for nobody for long, so that nobody queues up behind it either. What a crash of Postgres takes
// back of it is pruned again: the commit need not wait for the disk.
const beginPrune = `BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL synchronous_commit = off`

// errRoundOver says that a round ends before all is done: it has had its time, or another instance prunes, or somebody holds a lock.
var errRoundOver = errors.New("the round is over")

// Prune deletes what is kept no longer, in small transactions with a pause as long as each of them in between. It reports whether nothing is
// left to prune: false where the round ended before, because of Proceed, of another instance that prunes, or of a lock that somebody holds.
//
// Lines of the quarantine go first, and exports only where no line of that age is left: that a later export has deleted something, which
// RetryQuarantine looks for, is known as long as any line that it could bring back.
//
// What is old, the earlier of two clocks says, the database's and the host's: one that runs years ahead must not delete everything.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (complete bool, err error) {
	now, err := s.Clock(ctx)
	if err != nil {
		return false, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if host := o.Now(); host.Before(now) {
		now = host
	}
	p := pruner{store: s, options: o, batch: orDefault(o.Batch, defaultPruneBatch)}
	r := o.Retention
	lines := cmp.Or(r.Quarantine, r.Exports)
	if r.Exports > 0 {
		lines = min(lines, r.Exports)
	}
	for _, step := range []struct {
		keep  time.Duration
		prune func(ctx context.Context, before time.Time) error
	}{{lines, p.quarantine}, {r.Exports, p.exports}, {r.History, p.history}} {
		if step.keep <= 0 {
			continue
		}
		if err := step.prune(ctx, now.Add(-step.keep)); err != nil {
			if errors.Is(err, errRoundOver) || errors.Is(err, ErrLocked) || SQLState(err) == pgerrcodeLockNotAvailable {
				return false, nil
			}
			return false, fmt.Errorf("prune: %w", err)
		}
	}
	return true, nil
}

// pruner is a round of pruning.
type pruner struct {
	store   *Store
	options PruneOptions
	batch   int
}

// pruned is what a transaction has deleted.
type pruned struct {
	rows    map[string]int64
	details map[string]any // for the audit, beside the rows; nil leaves no event
	done    bool           // nothing is left
}

// drain runs transactions until one says that nothing is left. At any time, one instance is at it.
func (p *pruner) drain(ctx context.Context, batch func(ctx context.Context, tx pgx.Tx) (pruned, error)) error {
	for {
		if p.options.Proceed != nil && !p.options.Proceed() {
			return errRoundOver
		}
		began := time.Now()
		var done pruned
		err := inTxWith(ctx, p.store.pool, pgx.TxOptions{BeginQuery: beginPrune}, func(tx pgx.Tx) error {
			free, err := tryLockTx(ctx, tx, lockKey("retention"))
			if err != nil {
				return err
			}
			if !free {
				return errRoundOver
			}
			if done, err = batch(ctx, tx); err != nil {
				return err
			}
			return p.audit(ctx, tx, done)
		})
		if err != nil {
			return err
		}
		for table, n := range done.rows {
			if n > 0 && p.options.Pruned != nil {
				p.options.Pruned(table, n)
			}
		}
		if done.done {
			return nil
		}
		select {
		case <-time.After(time.Since(began)): // others have the database at least half of the time
		case <-ctx.Done():
			return context.Cause(ctx) //nolint:wrapcheck // the caller's own word
		}
	}
}

// audit notes what a transaction has deleted, in that transaction.
func (p *pruner) audit(ctx context.Context, tx pgx.Tx, done pruned) error {
	if done.details == nil {
		return nil
	}
	for table, n := range done.rows {
		if n > 0 {
			done.details[table] = n
		}
	}
	return p.store.AuditTx(ctx, tx, Actor{}, ActionPrune, "retention", done.details)
}

// lineShare is how many rows of a batch a quarantined line counts as: up to a MiB is kept of one.
const lineShare = 10

// quarantine deletes quarantined lines of exports that ended before the given time, whether or not these are kept themselves. Lines are
// looked at in their order, as far as the first that is younger.
func (p *pruner) quarantine(ctx context.Context, before time.Time) error {
	var after int64
	page := max(1, p.batch/lineShare)
	return p.drain(ctx, func(ctx context.Context, tx pgx.Tx) (pruned, error) {
		var done pruned
		var rows int64
		err := tx.QueryRow(ctx, `
			WITH page AS MATERIALIZED (
				SELECT id, export_id, created_at FROM ingest.quarantine WHERE id > $1 ORDER BY id LIMIT $2
			), gone AS (
				DELETE FROM ingest.quarantine AS line USING page, ingest.export AS e
				WHERE line.id = page.id AND page.created_at < $3 AND e.id = page.export_id AND `+isOver+`
				RETURNING line.id
			)
			SELECT coalesce(max(id), 0), count(*) < $2 OR bool_or(created_at >= $3), (SELECT count(*) FROM gone) FROM page`,
			after, page, before).Scan(&after, &done.done, &rows)
		if err != nil {
			return done, fmt.Errorf("delete quarantined lines: %w", err)
		}
		done.rows = map[string]int64{prunedQuarantine: rows}
		if rows > 0 {
			done.details = map[string]any{"ended_before": before.UTC().Format(time.RFC3339)}
		}
		return done, nil
	})
}

// isOver is the SQL for whether an export e ended before $3, here and at the payer.
const isOver = `e.state IN ('published', 'failed', 'canceled') AND e.finished_at < $3 AND e.cleaned_up_at IS NOT NULL`

// prunableTables are what hangs on an export, the export last. All but the first of them are few.
var prunableTables = []struct{ table, key string }{
	{prunedQuarantine, "export_id"},
	{prunedOutcome, "export_id"},
	{prunedAttachment, "export_id"},
	{prunedFile, "export_id"},
	{prunedType, "export_id"},
	{prunedExport, "id"},
}

// exports deletes exports that ended before the given time, but for those that mayGo keeps. They are looked at in their order, as far as the
// first that was recorded later: what it costs follows from how many are kept or due, not from how many there are.
//
// An export goes with all of its files in one transaction: a certificate is of the whole export, or there is none.
func (p *pruner) exports(ctx context.Context, before time.Time) error {
	var after int64
	return p.drain(ctx, func(ctx context.Context, tx pgx.Tx) (pruned, error) {
		due, last, ended, err := p.due(ctx, tx, after, before)
		if err != nil {
			return pruned{}, err
		}
		if len(due) == 0 {
			after = last
			return pruned{done: ended}, nil
		}
		// Of these there may be millions to an export, and nothing is certified of them.
		for _, table := range []string{prunedOutcome, prunedAttachment} {
			tag, err := tx.Exec(ctx, fmt.Sprintf(`DELETE FROM ingest.%[1]s WHERE ctid = ANY (ARRAY(
				SELECT ctid FROM ingest.%[1]s WHERE export_id = ANY ($1) LIMIT $2))`, table), due, p.batch)
			if err != nil {
				return pruned{}, fmt.Errorf("delete from %s: %w", table, err)
			}
			if tag.RowsAffected() > 0 {
				return pruned{rows: map[string]int64{table: tag.RowsAffected()}}, nil
			}
		}
		now, err := p.fitting(ctx, tx, due)
		if err != nil {
			return pruned{}, err
		}
		done, err := deleteExports(ctx, tx, now)
		if err != nil {
			return pruned{}, err
		}
		if done.details != nil {
			done.details["ended_before"] = before.UTC().Format(time.RFC3339)
		}
		if after = now[len(now)-1]; len(now) == len(due) {
			after, done.done = last, ended
		}
		return done, nil
	})
}

// duePage is how many exports are looked at in one transaction.
const duePage = 100

// due returns those of the next exports that may go, the last one that was looked at, and whether it was the last of all.
func (p *pruner) due(ctx context.Context, tx pgx.Tx, after int64, before time.Time) (due []int64, last int64, ended bool, err error) {
	err = tx.QueryRow(ctx, `
		WITH page AS MATERIALIZED (
			SELECT id, payer, state, kind, trigger, created_at, finished_at, cleaned_up_at, transaction_at, manifest_at
			FROM ingest.export WHERE id > $1 ORDER BY id LIMIT $2)
		SELECT coalesce(max(id), 0), count(*) < $2 OR bool_or(created_at >= $3), coalesce(array_agg(id ORDER BY id) FILTER (WHERE may_go), '{}')
		FROM (SELECT e.id, e.created_at, `+mayGo+` AS may_go FROM page AS e) AS looked`, after, duePage, before).Scan(&last, &ended, &due)
	if err != nil {
		return nil, 0, false, fmt.Errorf("look for exports that are kept no longer: %w", err)
	}
	return due, last, ended, nil
}

// fitting returns as many of the exports as have the files of one batch, and at least the first.
func (p *pruner) fitting(ctx context.Context, tx pgx.Tx, due []int64) ([]int64, error) {
	rows, err := tx.Query(ctx, `SELECT (SELECT count(*) FROM ingest.export_file WHERE export_id = due.id)
		FROM unnest($1::bigint[]) WITH ORDINALITY AS due (id, place) ORDER BY place`, due)
	if err != nil {
		return nil, fmt.Errorf("count the files: %w", err)
	}
	files, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("count the files: %w", err)
	}
	sum, n := 0, 0
	for n < len(due) && (n == 0 || sum+files[n] <= p.batch) {
		sum += files[n]
		n++
	}
	return due[:n], nil
}

// deleteExports deletes exports with all that hangs on them. One that somebody is at work on stays.
func deleteExports(ctx context.Context, tx pgx.Tx, ids []int64) (pruned, error) {
	done := pruned{rows: make(map[string]int64)}
	// Who keeps exports from changing has this lock first, too.
	if _, err := tx.Exec(ctx, `LOCK TABLE ingest.export IN ROW EXCLUSIVE MODE`); err != nil {
		return done, fmt.Errorf("lock the exports: %w", err)
	}
	rows, err := tx.Query(ctx, `SELECT id FROM ingest.export WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED`, ids)
	if err != nil {
		return done, fmt.Errorf("lock the exports: %w", err)
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return done, fmt.Errorf("lock the exports: %w", err)
	}
	for _, t := range prunableTables {
		tag, err := tx.Exec(ctx, fmt.Sprintf(`DELETE FROM ingest.%s WHERE %s = ANY ($1)`, t.table, t.key), locked)
		if err != nil {
			return done, fmt.Errorf("delete from %s: %w", t.table, err)
		}
		done.rows[t.table] = tag.RowsAffected()
	}
	if len(locked) > 0 {
		done.details = map[string]any{"first": slices.Min(locked), "last": slices.Max(locked)}
	}
	return done, nil
}
