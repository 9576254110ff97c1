package store

import (
	"context"
	"fmt"
	"time"
)

// BeatWorker notes that a worker of the job engine is alive.
func (s *Store) BeatWorker(ctx context.Context, worker string) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO ingest.heartbeat (worker) VALUES ($1)
		ON CONFLICT (worker) DO UPDATE SET seen_at = now()`, worker)
	if err != nil {
		return fmt.Errorf("note that this instance is alive: %w", err)
	}
	return nil
}

// HastenOrphans makes the kick-offs, polls and clean-ups overdue that a worker had begun which has not been seen for the given time. They
// hold no lock that would be free by now, and would otherwise be waited for until their timeout. A worker that was only slow
// finds that its jobs have been replaced; to clean up twice does no harm. One that died before its first heartbeat was last seen when it
// began the job. Workers that were not seen for a day are forgotten.
func (s *Store) HastenOrphans(ctx context.Context, unseen, grace time.Duration) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE ingest.export AS e SET job_due_at = now() - 2 * $2::interval
		FROM `+EngineSchema+`.river_job AS j LEFT JOIN ingest.heartbeat AS h ON h.worker = j.attempted_by[array_length(j.attempted_by, 1)]
		WHERE coalesce(h.seen_at, j.attempted_at) < now() - $1::interval AND j.state = 'running' AND j.kind IN ('start_export', 'poll_export', 'clean_up')
			AND e.id = (j.args ->> 'export_id')::bigint
			AND CASE j.kind
				WHEN 'clean_up' THEN e.cleaned_up_at IS NULL AND e.state IN ('published', 'failed', 'canceled') AND NOT EXISTS (
					SELECT FROM `+EngineSchema+`.river_job AS next WHERE next.kind = j.kind AND next.id > j.id AND next.args = j.args)
				WHEN 'start_export' THEN e.generation = (j.args ->> 'generation')::integer AND e.state = 'starting'
				ELSE e.generation = (j.args ->> 'generation')::integer AND e.state = 'polling'
			END
			AND e.job_due_at > now() - $2::interval`, unseen, grace)
	if err != nil {
		return fmt.Errorf("look for what instances that are gone had begun: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM ingest.heartbeat WHERE seen_at < now() - interval '1 day'`); err != nil {
		return fmt.Errorf("forget workers that are gone: %w", err)
	}
	return nil
}
