package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// history deletes versions of resources that ended before the given time.
func (p *pruner) history(ctx context.Context, before time.Time) error {
	tables, err := p.historyTables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := p.indexHistory(ctx, table); err != nil {
			return fmt.Errorf("index the history of %s: %w", table, err)
		}
		name := quote(p.store.history, table)
		err := p.drain(ctx, func(ctx context.Context, tx pgx.Tx) (pruned, error) {
			tag, err := tx.Exec(ctx, `DELETE FROM `+name+` WHERE ctid = ANY (ARRAY(
				SELECT ctid FROM `+name+` WHERE valid_to < $1 ORDER BY valid_to LIMIT $2))`, before, p.batch)
			if err != nil {
				return pruned{}, fmt.Errorf("delete from the history of %s: %w", table, err)
			}
			done := pruned{rows: map[string]int64{prunedHistory: tag.RowsAffected()}, done: tag.RowsAffected() < int64(p.batch)}
			if tag.RowsAffected() > 0 {
				done.details = map[string]any{"ended_before": before.UTC().Format(time.RFC3339), "table": table}
			}
			return done, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// historyTables lists the tables of the history that hold anything.
func (p *pruner) historyTables(ctx context.Context) ([]string, error) {
	known := make([]string, 0, len(fhir.Types()))
	for _, resourceType := range fhir.Types() {
		table, err := tableName(resourceType)
		if err != nil {
			return nil, err
		}
		known = append(known, table)
	}
	rows, err := p.store.pool.Query(ctx, `SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
		WHERE nspname = $1 AND relkind = 'r' AND relname = ANY ($2) ORDER BY relname`, p.store.history, known)
	if err != nil {
		return nil, fmt.Errorf("list the tables of the history: %w", err)
	}
	stand, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the tables of the history: %w", err)
	}
	filled := stand[:0]
	for _, table := range stand {
		var holds bool
		if err := p.store.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+quote(p.store.history, table)+`)`).Scan(&holds); err != nil {
			return nil, fmt.Errorf("look into the history of %s: %w", table, err)
		}
		if holds {
			filled = append(filled, table)
		}
	}
	return filled, nil
}

// dropTimeout bounds the removal of an index that could not be built.
const dropTimeout = 5 * time.Second

// indexHistory builds the index by which a table of the history is pruned, unless it stands, while publishes go on. Only who prunes the history
// pays for it. ErrLocked says that another instance builds it.
func (p *pruner) indexHistory(ctx context.Context, table string) error {
	s, index := p.store, shorten(table+"_history_valid_to")
	var stands, valid bool
	look := func(db querier) error {
		err := db.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_and(indisvalid), false) FROM pg_index WHERE indexrelid = to_regclass($1)`,
			quote(s.history, index)).Scan(&stands, &valid)
		if err != nil {
			return fmt.Errorf("look for it: %w", err)
		}
		return nil
	}
	if err := look(s.pool); err != nil || valid {
		return err
	}
	lease, err := s.lock(ctx, lockKey("retention/index"))
	if err != nil {
		return err
	}
	defer lease.Release(ctx)
	if err := look(lease.Conn()); err != nil || valid {
		return err
	}
	if stands { // a build that broke off left it
		if err := dropIndex(ctx, lease.Conn(), s.history, index); err != nil {
			return err
		}
	}
	_, err = lease.Conn().Exec(ctx, fmt.Sprintf(`CREATE INDEX CONCURRENTLY %s ON %s (valid_to)`, quote(index), quote(s.history, table)))
	if err == nil {
		return nil
	}
	err = fmt.Errorf("build it: %w", err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if lease.Conn().IsClosed() {
		return err // the next round drops it
	}
	return errors.Join(err, dropIndex(ctx, lease.Conn(), s.history, index))
}
