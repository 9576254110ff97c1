package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pause is an operator's word that a payer's schedules rest.
type Pause struct {
	At time.Time
	By string
}

// PausePayersTx lets the schedules of payers rest until ResumePayersTx, and returns those of them that were not resting yet. Exports
// that run go on, and can be started by hand.
func (s *Store) PausePayersTx(ctx context.Context, tx pgx.Tx, payers []string, by string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		INSERT INTO ingest.payer (payer, paused_at, paused_by) SELECT unnest($1::text[]), now(), $2
		ON CONFLICT (payer) DO UPDATE SET paused_at = now(), paused_by = excluded.paused_by
		WHERE payer.paused_at IS NULL RETURNING payer`, payers, by)
	if err != nil {
		return nil, fmt.Errorf("pause payers: %w", err)
	}
	paused, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("pause payers: %w", err)
	}
	return paused, nil
}

// ResumePayersTx ends the rest of payers, and returns those of them that were resting.
func (s *Store) ResumePayersTx(ctx context.Context, tx pgx.Tx, payers []string) ([]string, error) {
	rows, err := tx.Query(ctx, `UPDATE ingest.payer SET paused_at = NULL, paused_by = ''
		WHERE payer = ANY ($1) AND paused_at IS NOT NULL RETURNING payer`, payers)
	if err != nil {
		return nil, fmt.Errorf("resume payers: %w", err)
	}
	resumed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("resume payers: %w", err)
	}
	return resumed, nil
}

// Pauses returns the payers whose schedules rest.
func (s *Store) Pauses(ctx context.Context) (map[string]Pause, error) {
	rows, err := s.pool.Query(ctx, `SELECT payer, paused_at, paused_by FROM ingest.payer WHERE paused_at IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("list the paused payers: %w", err)
	}
	pauses := make(map[string]Pause)
	var payer string
	var p Pause
	_, err = pgx.ForEachRow(rows, []any{&payer, &p.At, &p.By}, func() error {
		pauses[payer] = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the paused payers: %w", err)
	}
	return pauses, nil
}

// IsPaused reports whether the schedules of a payer rest.
func (s *Store) IsPaused(ctx context.Context, payer string) (bool, error) {
	var paused bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.payer WHERE payer = $1 AND paused_at IS NOT NULL)`, payer).Scan(&paused)
	if err != nil {
		return false, fmt.Errorf("look whether %s is paused: %w", payer, err)
	}
	return paused, nil
}
