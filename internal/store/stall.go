package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// WaitsOf returns how long the payer's last exports of a kind took from kick-off to manifest: up to limit of those that were
// published, the newest first.
func (s *Store) WaitsOf(ctx context.Context, payer string, kind Kind, limit int) ([]time.Duration, error) {
	rows, err := s.pool.Query(ctx, `SELECT manifest_at - kicked_off_at FROM ingest.export
		WHERE payer = $1 AND kind = $2 AND state = 'published' AND manifest_at >= kicked_off_at
		ORDER BY id DESC LIMIT $3`, payer, kind, limit)
	if err != nil {
		return nil, fmt.Errorf("read how long exports of %s took: %w", payer, err)
	}
	waits, err := pgx.CollectRows(rows, pgx.RowTo[time.Duration])
	if err != nil {
		return nil, fmt.Errorf("read how long exports of %s took: %w", payer, err)
	}
	return waits, nil
}

// NoteStalled records that an export takes far longer than others of its payer did. It holds until its progress moves.
func (s *Store) NoteStalled(ctx context.Context, id int64, generation int) error {
	return change(ctx, s.pool, `UPDATE ingest.export SET stalled_at = now()
		WHERE id = $1 AND generation = $2 AND state = 'polling' AND stalled_at IS NULL`, id, generation)
}

// ForgetOldJobs records which of the jobs that were given up are still to be ended at the payer.
func (s *Store) ForgetOldJobs(ctx context.Context, id int64, left []string) error {
	if left == nil {
		left = []string{}
	}
	return change(ctx, s.pool, `UPDATE ingest.export SET old_status_urls = $2 WHERE id = $1`, id, left)
}
