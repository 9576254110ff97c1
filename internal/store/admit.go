package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Admission bounds which of the exports that wait may begin.
type Admission struct {
	// MaxExports is how many may run at once over all instances; 0 is no bound.
	MaxExports int
	// Quiet are payers that are asked for nothing now, unless by hand.
	Quiet []string
}

// Admitted is an export whose turn has come.
type Admitted struct {
	ID         int64
	Payer      string
	Generation int
	Queue      string
}

// Waiting reports whether any export waits for its turn.
func (s *Store) Waiting(ctx context.Context) (bool, error) {
	var waiting bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.export WHERE waiting AND state = 'starting')`).Scan(&waiting)
	if err != nil {
		return false, fmt.Errorf("look for exports that wait: %w", err)
	}
	return waiting, nil
}

// AdmitTx ends the waiting of exports, in the order of their due time, one by hand by that of its start, until as many run
// as may. The caller enqueues their kick-offs in the same transaction. One held back for an operator does not count as
// running; nor does one that waits.
func (s *Store) AdmitTx(ctx context.Context, tx pgx.Tx, a Admission) ([]Admitted, error) {
	// One at a time: of two that count, each sees whom the other has admitted.
	if err := lockTx(ctx, tx, lockKey("admit")); err != nil {
		return nil, err
	}
	if a.Quiet == nil {
		a.Quiet = []string{}
	}
	rows, err := tx.Query(ctx, `
		WITH admitted AS (
			UPDATE ingest.export SET waiting = false, admitted_at = now(), job_due_at = now()
			WHERE waiting AND state = 'starting' AND id IN (
				SELECT id FROM ingest.export
				WHERE waiting AND state = 'starting' AND (trigger = 'manual' OR payer <> ALL ($2))
				ORDER BY coalesce(due_at, created_at), id
				LIMIT CASE WHEN $1 > 0 THEN greatest(0, $1 - (
					SELECT count(*) FROM ingest.export
					WHERE state IN ('starting', 'polling', 'loading', 'publishing') AND NOT waiting)) END)
			RETURNING id, payer, generation, queue, coalesce(due_at, created_at) AS due)
		SELECT id, payer, generation, queue FROM admitted ORDER BY due, id`, a.MaxExports, a.Quiet)
	if err != nil {
		return nil, fmt.Errorf("admit exports that wait: %w", err)
	}
	admitted, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Admitted])
	if err != nil {
		return nil, fmt.Errorf("admit exports that wait: %w", err)
	}
	return admitted, nil
}

// PutBackTx makes an export that was not kicked off yet wait again.
func (s *Store) PutBackTx(ctx context.Context, tx pgx.Tx, id int64, generation int) error {
	return change(ctx, tx, `UPDATE ingest.export SET waiting = true, generation = generation + 1, trouble_at = NULL
		WHERE id = $1 AND generation = $2 AND state = 'starting' AND NOT waiting`, id, generation)
}
