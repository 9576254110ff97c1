package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PastExport is an export in a payer's history.
type PastExport struct {
	ID        int64
	State     State
	Waiting   bool
	ErrorCode string
	CreatedAt time.Time
	// FinishedAt is zero where it is not over.
	FinishedAt time.Time
}

// Histories returns the last exports of each payer, at most limit of each and the oldest first. One query for all payers.
func (s *Store) Histories(ctx context.Context, payers []string, limit int) (map[string][]PastExport, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT p.payer, e.id, e.state, e.waiting AND e.state = 'starting', e.error_code, e.created_at, e.finished_at
		FROM unnest($1::text[]) AS p (payer) CROSS JOIN LATERAL (
			SELECT id, state, waiting, error_code, created_at, finished_at FROM ingest.export
			WHERE payer = p.payer ORDER BY id DESC LIMIT $2) AS e
		ORDER BY p.payer, e.id`, payers, limit)
	if err != nil {
		return nil, fmt.Errorf("read the history of the payers: %w", err)
	}
	histories := make(map[string][]PastExport, len(payers))
	var payer string
	var e PastExport
	var finished *time.Time
	_, err = pgx.ForEachRow(rows, []any{&payer, &e.ID, &e.State, &e.Waiting, &e.ErrorCode, &e.CreatedAt, &finished}, func() error {
		e.FinishedAt = orZero(finished)
		histories[payer] = append(histories[payer], e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of the payers: %w", err)
	}
	return histories, nil
}

// RunningProgress returns how far each export is that is not over, by number. One query for all.
func (s *Store) RunningProgress(ctx context.Context) (map[int64]Progress, error) {
	rows, err := s.pool.Query(ctx, `SELECT e.id, `+progressColumns+`
		FROM ingest.export AS e LEFT JOIN ingest.export_file AS f ON f.export_id = e.id
		WHERE e.state IN ('starting', 'polling', 'loading', 'publishing', 'held') GROUP BY e.id`)
	if err != nil {
		return nil, fmt.Errorf("read the progress of the exports: %w", err)
	}
	running := make(map[int64]Progress)
	var id int64
	var p Progress
	_, err = pgx.ForEachRow(rows, append([]any{&id}, p.targets()...), func() error {
		running[id] = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the progress of the exports: %w", err)
	}
	return running, nil
}

// OpenIncidents returns what is wrong with each payer, by its name, the oldest first. One query for all.
func (s *Store) OpenIncidents(ctx context.Context) (map[string][]Incident, error) {
	rows, err := s.pool.Query(ctx, `SELECT payer, `+incidentColumns+` FROM ingest.incident WHERE closed_at IS NULL ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list the incidents: %w", err)
	}
	open := make(map[string][]Incident)
	var payer string
	var i Incident
	_, err = pgx.ForEachRow(rows, []any{&payer, &i.ID, &i.Event, &i.Code, &i.ExportID, &i.Exports, &i.OpenedAt}, func() error {
		open[payer] = append(open[payer], i)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the incidents: %w", err)
	}
	return open, nil
}

// About is what the database is.
type About struct {
	Database string
	Server   string // the version of Postgres
	Bytes    int64
}

// About says what the database is.
func (s *Store) About(ctx context.Context) (About, error) {
	var a About
	err := s.pool.QueryRow(ctx, `SELECT current_database(), current_setting('server_version'), pg_database_size(current_database())`).
		Scan(&a.Database, &a.Server, &a.Bytes)
	if err != nil {
		return a, fmt.Errorf("ask what the database is: %w", err)
	}
	return a, nil
}

// FileSummary is what became of a file of an export. It holds nothing of its URL.
type FileSummary struct {
	Ordinal      int
	Kind         FileKind
	ResourceType string
	State        string
	Expected     int64 // lines, by the manifest; -1 where it says none
	Lines        int64
	Bytes        int64
	WireBytes    int64
	Staged       int64
	Unchanged    int64
	Deletions    int64
	Quarantined  int64
	Outcomes     int64 // lines that were OperationOutcomes
	Headers      int64 // lines that open a block of organized output
	Repaired     int64
	Downloads    int
	Unproven     bool
	ErrorCode    string
}

// FileSummaries lists files of an export, at most limit: first those that failed or hold quarantined lines, then those that are not
// loaded, then the others, in the manifest's order.
func (s *Store) FileSummaries(ctx context.Context, exportID int64, limit int) ([]FileSummary, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT ordinal, kind, resource_type, state, coalesce(expected_count, -1), lines, bytes, wire_bytes, staged, unchanged, deletions, quarantined,
			outcomes, headers, repaired, downloads, unproven, error_code
		FROM ingest.export_file WHERE export_id = $1
		ORDER BY (state = 'failed') DESC, (quarantined > 0) DESC, (state <> 'loaded') DESC, ordinal LIMIT $2`, exportID, limit)
	if err != nil {
		return nil, fmt.Errorf("list the files: %w", err)
	}
	files, err := pgx.CollectRows(rows, pgx.RowToStructByPos[FileSummary])
	if err != nil {
		return nil, fmt.Errorf("list the files: %w", err)
	}
	return files, nil
}

// NotResources counts the lines of an export's output files that are accounted for and are no resources.
func (s *Store) NotResources(ctx context.Context, exportID int64) (int64, error) {
	var n int64
	err := s.pool.QueryRow(ctx, `SELECT coalesce(sum(outcomes + headers) FILTER (WHERE kind = 'output'), 0)::bigint
		FROM ingest.export_file WHERE export_id = $1`, exportID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the lines of export %d: %w", exportID, err)
	}
	return n, nil
}

// ReasonCount is how many lines of an export are in quarantine for a reason.
type ReasonCount struct {
	Reason string
	Lines  int64
	Loaded int64 // of those, how many a retry has loaded since
}

// QuarantineReasons counts the quarantined lines of an export, the most frequent reason first.
func (s *Store) QuarantineReasons(ctx context.Context, exportID int64) ([]ReasonCount, error) {
	rows, err := s.pool.Query(ctx, `SELECT reason, count(*), count(*) FILTER (WHERE result = 'loaded') FROM ingest.quarantine
		WHERE export_id = $1 GROUP BY reason ORDER BY 2 DESC, 1`, exportID)
	if err != nil {
		return nil, fmt.Errorf("count the quarantine of export %d: %w", exportID, err)
	}
	reasons, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ReasonCount])
	if err != nil {
		return nil, fmt.Errorf("count the quarantine of export %d: %w", exportID, err)
	}
	return reasons, nil
}
