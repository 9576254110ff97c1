package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Incident is what is wrong with a payer, until the next publish.
type Incident struct {
	ID       int64
	Event    string // failed, held or stale
	Code     string // of the failure
	ExportID int64  // the last one that failed or was held; 0 where the data are stale
	Exports  int    // how many failed or were held
	OpenedAt time.Time
}

// The events that begin an incident.
const (
	IncidentFailed = "failed"
	IncidentHeld   = "held"
	IncidentStale  = "stale"
)

const incidentColumns = `id, event, code, coalesce(export_id, 0), exports, opened_at`

// lockIncidentsTx keeps others from opening and closing incidents of a payer until the transaction ends. It is the last lock
// that a transaction takes.
func lockIncidentsTx(ctx context.Context, tx pgx.Tx, payer string) error {
	return lockTx(ctx, tx, lockKey("incident/"+payer))
}

// OpenIncidentTx notes that an export failed or was held. It reports whether that is to be told: the first failure is, until
// the next publish; and every export that is held, because each needs a decision.
func (s *Store) OpenIncidentTx(ctx context.Context, tx pgx.Tx, payer, event, code string, exportID int64) (Incident, bool, error) {
	if err := lockIncidentsTx(ctx, tx, payer); err != nil {
		return Incident{}, false, err
	}
	var last int64
	err := tx.QueryRow(ctx, `SELECT coalesce(export_id, 0) FROM ingest.incident WHERE payer = $1 AND event = $2 AND closed_at IS NULL`,
		payer, event).Scan(&last)
	first := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !first {
		return Incident{}, false, fmt.Errorf("look for an incident of %s: %w", payer, err)
	}
	if !first && last == exportID {
		return Incident{}, false, nil
	}
	i, err := incident(ctx, tx, `
		INSERT INTO ingest.incident AS i (payer, event, code, export_id, exports) VALUES ($1, $2, $3, $4, 1)
		ON CONFLICT (payer, event) WHERE closed_at IS NULL DO UPDATE SET export_id = excluded.export_id, exports = i.exports + 1
		RETURNING `+incidentColumns, payer, event, code, exportID)
	return i, first || event == IncidentHeld, err
}

// OpenStaleTx notes that a payer has been without a publish for longer than slo. It returns false where that is noted already,
// or no longer so.
func (s *Store) OpenStaleTx(ctx context.Context, tx pgx.Tx, payer string, slo time.Duration) (Incident, bool, error) {
	if err := lockIncidentsTx(ctx, tx, payer); err != nil {
		return Incident{}, false, err
	}
	i, err := incident(ctx, tx, `
		INSERT INTO ingest.incident (payer, event) SELECT w.payer, 'stale' FROM (SELECT $1::text AS payer, $2::interval AS slo) AS w
		WHERE `+isStale+`
		ON CONFLICT (payer, event) WHERE closed_at IS NULL DO NOTHING
		RETURNING `+incidentColumns, payer, slo)
	if errors.Is(err, pgx.ErrNoRows) {
		return Incident{}, false, nil
	}
	return i, err == nil, err
}

// lastPublish is when an export of w.payer was last published, back-fills apart; null where none was.
const lastPublish = `(SELECT finished_at FROM ingest.export WHERE payer = w.payer AND state = 'published' AND kind <> 'backfill'
	ORDER BY id DESC LIMIT 1)`

// isStale says that w.payer has been without a publish for longer than w.slo: since the last one, or else since it was first
// heard of.
const isStale = `coalesce(` + lastPublish + `,
	(SELECT least(min(created_at), (SELECT min(fired_at) FROM ingest.tick WHERE payer = w.payer)) FROM ingest.export WHERE payer = w.payer)
	) < now() - w.slo`

// Stale lists the payers that have been without a publish for longer than the time that slos gives them, and of whom that is
// not noted yet.
func (s *Store) Stale(ctx context.Context, slos map[string]time.Duration) ([]string, error) {
	payers, limits := make([]string, 0, len(slos)), make([]time.Duration, 0, len(slos))
	for payer, slo := range slos {
		payers, limits = append(payers, payer), append(limits, slo)
	}
	rows, err := s.pool.Query(ctx, `
		SELECT w.payer FROM unnest($1::text[], $2::interval[]) AS w (payer, slo)
		WHERE NOT EXISTS (SELECT FROM ingest.incident AS i WHERE i.payer = w.payer AND i.event = 'stale' AND i.closed_at IS NULL)
			AND `+isStale+` ORDER BY 1`, payers, limits)
	if err != nil {
		return nil, fmt.Errorf("look for stale payers: %w", err)
	}
	stale, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for stale payers: %w", err)
	}
	return stale, nil
}

// CloseIncidentsTx ends the incidents of a payer with the publish of an export, and returns them, the oldest first.
func (s *Store) CloseIncidentsTx(ctx context.Context, tx pgx.Tx, payer string, exportID int64) ([]Incident, error) {
	if err := lockIncidentsTx(ctx, tx, payer); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `
		WITH closed AS (
			UPDATE ingest.incident SET closed_at = now(), closed_by = $2 WHERE payer = $1 AND closed_at IS NULL
			RETURNING *)
		SELECT `+incidentColumns+` FROM closed ORDER BY id`, payer, exportID)
	if err != nil {
		return nil, fmt.Errorf("close the incidents of %s: %w", payer, err)
	}
	closed, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Incident])
	if err != nil {
		return nil, fmt.Errorf("close the incidents of %s: %w", payer, err)
	}
	return closed, nil
}

// LastSuccessTx returns when an export of a payer was last published, back-fills apart; the zero time where none was.
func (s *Store) LastSuccessTx(ctx context.Context, tx pgx.Tx, payer string) (time.Time, error) {
	var last *time.Time
	if err := tx.QueryRow(ctx, `SELECT `+lastPublish+` FROM (SELECT $1::text AS payer) AS w`, payer).Scan(&last); err != nil {
		return time.Time{}, fmt.Errorf("read the last publish of %s: %w", payer, err)
	}
	return orZero(last), nil
}

func incident(ctx context.Context, db querier, sql string, args ...any) (Incident, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return Incident{}, fmt.Errorf("note an incident: %w", err)
	}
	i, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Incident])
	if err != nil {
		return Incident{}, fmt.Errorf("note an incident: %w", err)
	}
	return i, nil
}
