package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Figures are what metrics say of the whole fleet, read at once.
type Figures struct {
	Payers []PayerFigures // in no order; one for each that was asked for
	Queues []QueueFigures
	// Instances are those that are alive; Leads says whether one of them leads the job engine.
	Instances int
	Leads     bool
	// Mismatched are the payers that live instances have configured differently.
	Mismatched []string
}

// PayerFigures are what metrics say of one payer. Times are zero where nothing of the kind has happened.
type PayerFigures struct {
	Payer string
	// State is that of the newest export, empty where there is none; Waiting says that it has not had its turn.
	State   State
	Waiting bool
	// StartedAt is when the newest export was recorded, StalledAt since when it takes far longer than others did.
	StartedAt time.Time
	StalledAt time.Time
	// PublishedAt, Lines and Quarantined are of the newest export that was published, back-fills apart.
	PublishedAt time.Time
	Lines       int64
	Quarantined int64
	// FreshAt is the latest transactionTime that was published.
	FreshAt time.Time
	// StaleSince is when it was noted that nothing was published for too long.
	StaleSince time.Time
	// Failed is how many exports have failed since the last publish.
	Failed int
	Paused bool
}

// QueueFigures are what metrics say of one queue of the job engine. All queues of runs in the foreground are one.
type QueueFigures struct {
	Queue string
	// Due are the jobs that could be worked and are not, Running those that are, Later those that are put off.
	Due, Running, Later int
	// OldestDue is how long the first of those that are due has been so; 0 where there is none.
	OldestDue time.Duration
}

// Figures reads what metrics say of these payers and of the fleet. Its cost follows from the number of payers and of jobs that
// are not over, not from how many exports there ever were; it is one round trip.
func (s *Store) Figures(ctx context.Context, payers []string) (Figures, error) {
	var f Figures
	batch := &pgx.Batch{}
	batch.Queue(`
		SELECT p.payer, coalesce(last.state, ''), coalesce(last.waiting, false), last.created_at, last.stalled_at,
			published.finished_at, coalesce(published.lines, 0), coalesce(published.quarantined, 0), fresh.transaction_at,
			(SELECT opened_at FROM ingest.incident WHERE payer = p.payer AND event = 'stale' AND closed_at IS NULL),
			coalesce((SELECT exports FROM ingest.incident WHERE payer = p.payer AND event = 'failed' AND closed_at IS NULL), 0),
			EXISTS (SELECT FROM ingest.payer WHERE payer = p.payer AND paused_at IS NOT NULL)
		FROM unnest($1::text[]) AS p (payer)
		LEFT JOIN LATERAL (SELECT state, waiting, created_at, stalled_at FROM ingest.export
			WHERE payer = p.payer ORDER BY id DESC LIMIT 1) AS last ON true
		LEFT JOIN LATERAL (SELECT finished_at, lines, quarantined FROM ingest.export
			WHERE payer = p.payer AND state = 'published' AND kind <> 'backfill' ORDER BY id DESC LIMIT 1) AS published ON true
		LEFT JOIN LATERAL (SELECT transaction_at FROM ingest.export
			WHERE payer = p.payer AND state = 'published' AND kind <> 'backfill' AND transaction_at IS NOT NULL
			ORDER BY transaction_at DESC LIMIT 1) AS fresh ON true`, payers).Query(func(rows pgx.Rows) error {
		var err error
		f.Payers, err = pgx.CollectRows(rows, scanPayerFigures)
		return err //nolint:wrapcheck // wrapped below, once for all
	})
	batch.Queue(`
		SELECT CASE WHEN queue IN ('control', 'bulk', 'notify', 'fleet', 'retention') THEN queue ELSE 'foreground' END AS name,
			count(*) FILTER (WHERE due), count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE NOT due AND state <> 'running'),
			coalesce(extract(epoch FROM now() - min(scheduled_at) FILTER (WHERE due)), 0)::float8
		FROM (
			SELECT queue, state, scheduled_at, state IN ('available', 'pending') OR state IN ('scheduled', 'retryable') AND scheduled_at <= now() AS due
			FROM ` + EngineSchema + `.river_job WHERE state IN ('available', 'pending', 'running', 'retryable', 'scheduled')
		) AS job GROUP BY name`).Query(func(rows pgx.Rows) error {
		var err error
		f.Queues, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (QueueFigures, error) {
			var q QueueFigures
			var seconds float64
			err := row.Scan(&q.Queue, &q.Due, &q.Running, &q.Later, &seconds)
			q.OldestDue = time.Duration(max(0, seconds) * float64(time.Second))
			return q, err
		})
		return err //nolint:wrapcheck // wrapped below, once for all
	})
	batch.Queue(`SELECT count(*), EXISTS (SELECT FROM `+EngineSchema+`.river_leader WHERE expires_at > now())
		FROM ingest.instance WHERE seen_at > now() - $1::interval`, instanceLife).QueryRow(func(row pgx.Row) error {
		return row.Scan(&f.Instances, &f.Leads)
	})
	batch.Queue(`
		WITH live AS (SELECT payers FROM ingest.instance WHERE seen_at > now() - $1::interval)
		SELECT key FROM live, jsonb_each_text(live.payers)
		GROUP BY key HAVING count(DISTINCT value) > 1 OR count(*) < (SELECT count(*) FROM live)`, instanceLife).Query(func(rows pgx.Rows) error {
		var err error
		f.Mismatched, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err //nolint:wrapcheck // wrapped below, once for all
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Figures{}, fmt.Errorf("read the figures of the fleet: %w", err)
	}
	return f, nil
}

func scanPayerFigures(row pgx.CollectableRow) (PayerFigures, error) {
	var p PayerFigures
	var started, stalled, published, fresh, stale *time.Time
	err := row.Scan(&p.Payer, &p.State, &p.Waiting, &started, &stalled, &published, &p.Lines, &p.Quarantined, &fresh, &stale,
		&p.Failed, &p.Paused)
	for to, from := range map[*time.Time]*time.Time{
		&p.StartedAt: started, &p.StalledAt: stalled, &p.PublishedAt: published, &p.FreshAt: fresh, &p.StaleSince: stale,
	} {
		if from != nil {
			*to = *from
		}
	}
	return p, err
}
