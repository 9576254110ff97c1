package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// LateExport is an export whose files will have expired before they are loaded, if it goes on as it does.
type LateExport struct {
	ID        int64
	Payer     string
	Left      int       // files that are not loaded
	ExpiresAt time.Time // of the first of them
	EndsAt    time.Time // the estimate
}

// LateExports lists, once each, the exports that are not loaded in time, by the number of files loaded since the manifest came
// (protocol.md FILE-14).
func (s *Store) LateExports(ctx context.Context) ([]LateExport, error) {
	rows, err := s.pool.Query(ctx, `
		WITH pace AS (
			SELECT e.id, count(*) FILTER (WHERE f.state <> 'loaded') AS files_left,
				least(e.expires_at, min(f.expires_at) FILTER (WHERE f.state <> 'loaded')) AS expires_at,
				now() + (now() - e.manifest_at) * count(*) FILTER (WHERE f.state <> 'loaded')
					/ greatest(count(*) FILTER (WHERE f.state = 'loaded'), 1) AS ends_at
			FROM ingest.export AS e JOIN ingest.export_file AS f ON f.export_id = e.id
			WHERE e.state = 'loading' AND e.late_at IS NULL AND e.manifest_at < now() - interval '1 minute'
			GROUP BY e.id)
		UPDATE ingest.export AS e SET late_at = now() FROM pace
		WHERE e.id = pace.id AND pace.ends_at > pace.expires_at
		RETURNING e.id, e.payer, pace.files_left, pace.expires_at, pace.ends_at`)
	if err != nil {
		return nil, fmt.Errorf("look for exports that will not be loaded in time: %w", err)
	}
	late, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LateExport])
	if err != nil {
		return nil, fmt.Errorf("look for exports that will not be loaded in time: %w", err)
	}
	return late, nil
}
