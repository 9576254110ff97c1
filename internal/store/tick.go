package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Schedule says which of a payer's two schedules a tick belongs to.
type Schedule string

// The schedules of a payer.
const (
	ScheduleIncremental Schedule = "schedule"
	ScheduleFull        Schedule = "full_schedule"
)

// TickOutcome says what came of a tick.
type TickOutcome string

// The outcomes of a tick.
const (
	TickRegistered TickOutcome = "registered" // not a tick, but when the schedule was first seen
	TickStarted    TickOutcome = "started"
	TickSkipped    TickOutcome = "skipped"
)

// LastTick returns the last tick of a payer's schedule that was seen; the zero time where none was.
func (s *Store) LastTick(ctx context.Context, payer string, schedule Schedule) (time.Time, error) {
	var last *time.Time
	err := s.pool.QueryRow(ctx, `SELECT max(due_at) FROM ingest.tick WHERE payer = $1 AND schedule = $2`, payer, schedule).Scan(&last)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the last tick of %s: %w", payer, err)
	}
	return orZero(last), nil
}

// ClaimTickTx records a tick, so that no other instance acts on it; false where one already did. It serializes the ticks
// of a payer: who claims one sees all that were claimed before.
func (s *Store) ClaimTickTx(ctx context.Context, tx pgx.Tx, payer string, schedule Schedule, due time.Time) (bool, error) {
	if err := lockTx(ctx, tx, lockKey("tick/"+payer)); err != nil {
		return false, err
	}
	var later bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.tick WHERE payer = $1 AND schedule = $2 AND due_at >= $3)`,
		payer, schedule, due).Scan(&later)
	if err != nil {
		return false, fmt.Errorf("read the ticks of %s: %w", payer, err)
	}
	if later {
		return false, nil
	}
	_, err = tx.Exec(ctx, `INSERT INTO ingest.tick (payer, schedule, due_at, outcome) VALUES ($1, $2, $3, 'registered')`,
		payer, schedule, due)
	if err != nil {
		return false, fmt.Errorf("claim a tick of %s: %w", payer, err)
	}
	return true, nil
}

// NoteTickTx records what came of a claimed tick.
func (s *Store) NoteTickTx(ctx context.Context, tx pgx.Tx, payer string, schedule Schedule, due time.Time,
	outcome TickOutcome, exportID int64,
) error {
	var id *int64
	if exportID != 0 {
		id = &exportID
	}
	return change(ctx, tx, `UPDATE ingest.tick SET outcome = $4, export_id = $5 WHERE payer = $1 AND schedule = $2 AND due_at = $3`,
		payer, schedule, due, outcome, id)
}

// PruneTicks forgets ticks that are older than keep, but for the last of each schedule, which says where to go on.
func (s *Store) PruneTicks(ctx context.Context, keep time.Duration) error {
	_, err := s.pool.Exec(ctx, `
		DELETE FROM ingest.tick AS old WHERE fired_at < now() - $1::interval AND EXISTS (
			SELECT FROM ingest.tick AS later
			WHERE later.payer = old.payer AND later.schedule = old.schedule AND later.due_at > old.due_at)`, keep)
	if err != nil {
		return fmt.Errorf("prune the ticks: %w", err)
	}
	return nil
}

// OverdueExport is an export whose next job should have run but has not: its instance died, or the job was lost.
type OverdueExport struct {
	ID         int64
	State      State
	Generation int
}

// OverdueFile is a file whose load stands still.
type OverdueFile struct {
	ExportID int64
	Ordinal  int
}

// Overdue lists exports and files whose job was due longer ago than grace: also exports that are over, but not cleaned up. Whether somebody is at work on them after all,
// ReclaimExportTx and ReclaimFileTx find out.
func (s *Store) Overdue(ctx context.Context, grace time.Duration) ([]OverdueExport, []OverdueFile, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id, state, generation FROM ingest.export
		WHERE state IN ('starting', 'polling', 'publishing') AND job_due_at < now() - $1::interval
		UNION ALL
		SELECT id, state, generation FROM ingest.export
		WHERE state IN ('published', 'failed', 'canceled') AND cleaned_up_at IS NULL AND job_due_at < now() - $1::interval
		ORDER BY id`, grace)
	if err != nil {
		return nil, nil, fmt.Errorf("look for overdue exports: %w", err)
	}
	exports, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OverdueExport])
	if err != nil {
		return nil, nil, fmt.Errorf("look for overdue exports: %w", err)
	}
	rows, err = s.pool.Query(ctx, `
		SELECT f.export_id, f.ordinal FROM ingest.export_file AS f JOIN ingest.export AS e ON e.id = f.export_id
		WHERE f.state = 'queued' AND e.state IN ('polling', 'loading') AND f.job_due_at < now() - $1::interval
		ORDER BY f.export_id, f.ordinal`, grace)
	if err != nil {
		return nil, nil, fmt.Errorf("look for overdue files: %w", err)
	}
	files, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OverdueFile])
	if err != nil {
		return nil, nil, fmt.Errorf("look for overdue files: %w", err)
	}
	return exports, files, nil
}

// ReclaimExportTx takes an overdue export over, where nobody holds its lock and it is still overdue: its next job may then
// be enqueued in the same transaction, for the next generation, on the given queue: the worker of the queue of its own that
// it may have had is gone.
func (s *Store) ReclaimExportTx(ctx context.Context, tx pgx.Tx, o OverdueExport, grace time.Duration, queue string) (bool, error) {
	free, err := tryLockTx(ctx, tx, exportKey(o.ID))
	if err != nil || !free {
		return false, err
	}
	err = change(ctx, tx, `UPDATE ingest.export SET job_due_at = now(), queue = $5, generation = generation + 1
		WHERE id = $1 AND state = $2 AND generation = $4 AND job_due_at < now() - $3::interval`,
		o.ID, o.State, grace, o.Generation, queue)
	if errors.Is(err, errStale) {
		return false, nil
	}
	return err == nil, err
}

// ReclaimFileTx takes an overdue file over in the same way.
func (s *Store) ReclaimFileTx(ctx context.Context, tx pgx.Tx, o OverdueFile, grace time.Duration, queue string) (bool, error) {
	free, err := tryLockTx(ctx, tx, fileKey(o.ExportID, o.Ordinal))
	if err != nil || !free {
		return false, err
	}
	err = change(ctx, tx, `UPDATE ingest.export_file SET job_due_at = now()
		WHERE export_id = $1 AND ordinal = $2 AND state = 'queued' AND job_due_at < now() - $3::interval`,
		o.ExportID, o.Ordinal, grace)
	if errors.Is(err, errStale) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `UPDATE ingest.export SET queue = $2 WHERE id = $1 AND queue <> $2`, o.ExportID, queue)
	if err != nil {
		return false, fmt.Errorf("take an export over: %w", err)
	}
	return true, nil
}
