package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// Removed is what RemovePayer has removed.
type Removed struct {
	Tables     int   `json:"tables"`      // partitions of resource types
	Rows       int64 `json:"rows"`        // in them, as Postgres estimated
	History    int64 `json:"history"`     // earlier versions
	Exports    int64 `json:"exports"`     // with their files, ledgers and quarantine
	Attached   int64 `json:"attachments"` // fetched attachments
	Watermarks int64 `json:"watermarks"`
}

// removeAttempts and removePause bound how long RemovePayer waits for readers.
const (
	removeAttempts = 20
	removePause    = 3 * time.Second
	removeTimeout  = 200 * time.Millisecond
)

// RemovePayer removes all that is stored of a payer, in one transaction: its partitions are detached and dropped, its earlier
// versions, attachments, exports, watermarks and ticks deleted. It fails with ErrExportRunning while an export of the payer is not
// finished or not cleaned up. Readers are not kept waiting: where one of them holds a table for longer than 200 ms, it lets go and
// tries again, for a minute.
func (s *Store) RemovePayer(ctx context.Context, payer string, by Actor) (Removed, error) {
	for attempt := 1; ; attempt++ {
		var removed Removed
		err := s.InTx(ctx, func(tx pgx.Tx) error {
			r := remover{store: s, tx: tx, payer: payer}
			err := r.remove(ctx)
			removed = r.removed
			if err != nil {
				return err
			}
			return s.AuditTx(ctx, tx, by, ActionRemovePayer, PayerObject(payer), map[string]any{
				"tables": removed.Tables, "rows": removed.Rows, "history": removed.History, "exports": removed.Exports,
				"attachments": removed.Attached,
			})
		})
		if err == nil || SQLState(err) != pgerrcodeLockNotAvailable || attempt == removeAttempts {
			return removed, err
		}
		select {
		case <-time.After(removePause):
		case <-ctx.Done():
			return Removed{}, context.Cause(ctx) //nolint:wrapcheck // the caller's own word
		}
	}
}

// pgerrcodeLockNotAvailable is SQLSTATE lock_not_available.
const pgerrcodeLockNotAvailable = "55P03"

// remover is the transaction of RemovePayer.
type remover struct {
	store   *Store
	tx      pgx.Tx
	payer   string
	removed Removed
}

func (r *remover) remove(ctx context.Context) error {
	if _, err := r.tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, removeTimeout.Milliseconds())); err != nil {
		return fmt.Errorf("bound the wait for locks: %w", err)
	}
	// A new export needs the lock on its index entry; what is not over is looked for behind that.
	if _, err := r.tx.Exec(ctx, `LOCK TABLE ingest.export IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return fmt.Errorf("keep exports from beginning: %w", err)
	}
	var busy bool
	err := r.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.export WHERE payer = $1
		AND (state IN ('starting', 'polling', 'loading', 'publishing', 'held') OR cleaned_up_at IS NULL))`, r.payer).Scan(&busy)
	if err != nil {
		return fmt.Errorf("look for exports of %s: %w", r.payer, err)
	}
	if busy {
		return ErrExportRunning
	}
	var tables []string // that the payer has a partition of
	for _, resourceType := range fhir.Types() {
		table, err := tableName(resourceType)
		if err != nil {
			return err
		}
		exists, err := r.store.hasPartition(ctx, r.tx, table, r.payer)
		if err != nil {
			return err
		}
		if exists {
			tables = append(tables, table)
		}
		n, err := r.deleteFrom(ctx, quote(r.store.history, table))
		if err != nil {
			return err
		}
		r.removed.History += n
	}
	if err := r.removeControl(ctx); err != nil {
		return err
	}
	return r.dropPartitions(ctx, tables)
}

// dropPartitions comes last, and waits for all of its locks no longer than for one: readers of all payers wait from the first of them
// to the commit.
func (r *remover) dropPartitions(ctx context.Context, tables []string) error {
	began := time.Now()
	for _, table := range tables {
		left := max(removeTimeout-time.Since(began), time.Millisecond)
		if _, err := r.tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, left.Milliseconds())); err != nil {
			return fmt.Errorf("bound the wait for locks: %w", err)
		}
		part := quote(r.store.schema, partition(table, r.payer))
		var rows float64
		if err := r.tx.QueryRow(ctx, `SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = $1::regclass`, part).Scan(&rows); err != nil {
			return fmt.Errorf("estimate the rows of %s: %w", table, err)
		}
		_, err := r.tx.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s; DROP TABLE %[2]s`, quote(r.store.schema, table), part))
		if err != nil {
			return fmt.Errorf("drop the partition of %s: %w", table, err)
		}
		r.removed.Tables++
		r.removed.Rows += int64(rows)
	}
	return nil
}

// removeControl deletes what is left of the payer beside its data.
func (r *remover) removeControl(ctx context.Context) error {
	for _, step := range []struct {
		table string
		count *int64
	}{
		{quote(r.store.schema, attachmentTable), &r.removed.Attached},
		{`ingest.export`, &r.removed.Exports}, // and what refers to it
		{`ingest.watermark`, &r.removed.Watermarks},
		{`ingest.tick`, nil},
		{`ingest.newcomer`, nil},
		{`ingest.settings`, nil},
		{`ingest.incident`, nil},
		{`ingest.notification`, nil},
		{`ingest.payer`, nil},
	} {
		n, err := r.deleteFrom(ctx, step.table)
		if err != nil {
			return err
		}
		if step.count != nil {
			*step.count = n
		}
	}
	return nil
}

// deleteFrom deletes the payer's rows of a table, where that stands.
func (r *remover) deleteFrom(ctx context.Context, table string) (int64, error) {
	var stands bool
	if err := r.tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&stands); err != nil {
		return 0, fmt.Errorf("look for %s: %w", table, err)
	}
	if !stands {
		return 0, nil
	}
	tag, err := r.tx.Exec(ctx, `DELETE FROM `+table+` WHERE payer = $1`, r.payer)
	if err != nil {
		return 0, fmt.Errorf("delete from %s: %w", table, err)
	}
	return tag.RowsAffected(), nil
}

// HasPayer reports whether anything is stored of a payer.
func (s *Store) HasPayer(ctx context.Context, payer string) (bool, error) {
	_, err := exportRow(ctx, s.pool, `SELECT `+exportColumns+` FROM ingest.export WHERE payer = $1 LIMIT 1`, payer)
	if errors.Is(err, ErrNoExport) {
		return false, nil
	}
	return err == nil, err
}
