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
	TickSkipped    TickOutcome = "skipped" // another export of the payer was not finished
	TickMissed     TickOutcome = "missed"  // it was too late to be made up
)

// Clock returns the time by the database's clock, which is the one that decides what is due: those of instances may differ.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("read the clock of Postgres: %w", err)
	}
	return now, nil
}

// TickState is what decides about the ticks of a payer.
type TickState struct {
	// Last is the last tick of each schedule that was seen; none where a schedule never was.
	Last map[Schedule]time.Time
	// Paused says that an operator lets the schedules rest.
	Paused bool
	// Active says that an export of the payer is not finished.
	Active bool
	// FinishedAt is when the last export that is finished was; zero where there is none.
	FinishedAt time.Time
}

// TickStates returns what decides about the ticks of the given payers, by name.
func (s *Store) TickStates(ctx context.Context, payers []string) (map[string]TickState, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT p.payer,
			(SELECT max(due_at) FROM ingest.tick WHERE payer = p.payer AND schedule = 'schedule'),
			(SELECT max(due_at) FROM ingest.tick WHERE payer = p.payer AND schedule = 'full_schedule'),
			EXISTS (SELECT FROM ingest.payer WHERE payer = p.payer AND paused_at IS NOT NULL),
			EXISTS (SELECT FROM ingest.export
				WHERE payer = p.payer AND state IN ('starting', 'polling', 'loading', 'publishing', 'held')),
			(SELECT finished_at FROM ingest.export WHERE payer = p.payer AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1)
		FROM unnest($1::text[]) AS p (payer)`, payers)
	if err != nil {
		return nil, fmt.Errorf("read the ticks: %w", err)
	}
	states := make(map[string]TickState, len(payers))
	var payer string
	var incremental, full, finished *time.Time
	var paused, active bool
	_, err = pgx.ForEachRow(rows, []any{&payer, &incremental, &full, &paused, &active, &finished}, func() error {
		last := map[Schedule]time.Time{ScheduleIncremental: orZero(incremental), ScheduleFull: orZero(full)}
		states[payer] = TickState{Last: last, Paused: paused, Active: active, FinishedAt: orZero(finished)}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the ticks: %w", err)
	}
	return states, nil
}

// ClaimTickTx records a tick, so that no other instance acts on it; false where one already did, or is about to. Ticks of a
// payer are claimed one after the other: who claims one sees all that were claimed before.
func (s *Store) ClaimTickTx(ctx context.Context, tx pgx.Tx, payer string, schedule Schedule, due time.Time) (bool, error) {
	free, err := tryLockTx(ctx, tx, lockKey("tick/"+payer))
	if err != nil || !free {
		return false, err
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO ingest.tick (payer, schedule, due_at, outcome) SELECT $1, $2, $3, 'registered'
		WHERE NOT EXISTS (SELECT FROM ingest.tick WHERE payer = $1 AND schedule = $2 AND due_at >= $3)`, payer, schedule, due)
	if err != nil {
		return false, fmt.Errorf("claim a tick of %s: %w", payer, err)
	}
	return tag.RowsAffected() == 1, nil
}

// ForgetFutureTicks removes ticks of times that are still further ahead than the given time, and returns how many: the clock was
// wrong when they were recorded, and they would keep the real ones from running.
func (s *Store) ForgetFutureTicks(ctx context.Context, ahead time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM ingest.tick WHERE due_at > clock_timestamp() + $1::interval`, ahead)
	if err != nil {
		return 0, fmt.Errorf("forget ticks of the future: %w", err)
	}
	return tag.RowsAffected(), nil
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

// PruneTicks forgets ticks that are older than keep, but for the last of each schedule, which says where to go on. It returns how many.
func (s *Store) PruneTicks(ctx context.Context, keep time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `
		DELETE FROM ingest.tick AS old WHERE fired_at < now() - $1::interval AND EXISTS (
			SELECT FROM ingest.tick AS later
			WHERE later.payer = old.payer AND later.schedule = old.schedule AND later.due_at > old.due_at)`, keep)
	if err != nil {
		return 0, fmt.Errorf("prune the ticks: %w", err)
	}
	return tag.RowsAffected(), nil
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
		WHERE state IN ('starting', 'polling', 'publishing') AND NOT waiting AND job_due_at < now() - $1::interval
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
