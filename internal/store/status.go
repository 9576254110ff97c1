package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PayerState is what the database knows of a payer.
type PayerState struct {
	// Last is the newest export; its ID is 0 where there is none.
	Last Export
	// Published is the newest export that was published, back-fills apart; its ID is 0 where there is none.
	Published Export
	// FreshAt is the latest transactionTime that was published: the data is as of then.
	FreshAt time.Time
	// StaleSince is when it was noted that nothing was published for too long; zero where that is not so.
	StaleSince time.Time
}

// PayerStates returns what the database knows of each payer that ever had an export, by name.
func (s *Store) PayerStates(ctx context.Context) (map[string]PayerState, error) {
	states := make(map[string]PayerState)
	for _, q := range []struct {
		condition string
		set       func(state *PayerState, e Export)
	}{
		{`true`, func(state *PayerState, e Export) { state.Last = e }},
		{`state = 'published' AND kind <> 'backfill'`, func(state *PayerState, e Export) { state.Published = e }},
	} {
		rows, err := s.pool.Query(ctx, `SELECT DISTINCT ON (payer) `+exportColumns+` FROM ingest.export
			WHERE `+q.condition+` ORDER BY payer, id DESC`)
		if err != nil {
			return nil, fmt.Errorf("read the state of the payers: %w", err)
		}
		exports, err := pgx.CollectRows(rows, scanExport)
		if err != nil {
			return nil, fmt.Errorf("read the state of the payers: %w", err)
		}
		for _, e := range exports {
			state := states[e.Payer]
			q.set(&state, e)
			states[e.Payer] = state
		}
	}
	rows, err := s.pool.Query(ctx, `SELECT payer, max(transaction_at) FROM ingest.export
		WHERE state = 'published' AND kind <> 'backfill' AND transaction_at IS NOT NULL GROUP BY payer`)
	if err != nil {
		return nil, fmt.Errorf("read the freshness of the payers: %w", err)
	}
	var payer string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&payer, &at}, func() error {
		state := states[payer]
		state.FreshAt = at
		states[payer] = state
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the freshness of the payers: %w", err)
	}
	rows, err = s.pool.Query(ctx, `SELECT payer, opened_at FROM ingest.incident WHERE event = 'stale' AND closed_at IS NULL`)
	if err != nil {
		return nil, fmt.Errorf("read which payers are stale: %w", err)
	}
	_, err = pgx.ForEachRow(rows, []any{&payer, &at}, func() error {
		state := states[payer]
		state.StaleSince = at
		states[payer] = state
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which payers are stale: %w", err)
	}
	return states, nil
}

// Progress is how far the loading of an export is.
type Progress struct {
	State         State   `json:"state"`
	Waiting       bool    `json:"waiting"`        // it has not begun: as many exports run as may
	PayerProgress string  `json:"payer_progress"` // what the payer says while it is at work
	PayerPercent  float64 `json:"payer_percent"`  // -1 where unknown
	Files         int     `json:"files"`
	FilesLoaded   int     `json:"files_loaded"`
	Lines         int64   `json:"lines"`
	Bytes         int64   `json:"bytes"`
	WireBytes     int64   `json:"wire_bytes"`
	Expected      int64   `json:"expected_lines"` // that the manifest promises; 0 where it does not say for every file
	Staged        int64   `json:"staged"`
	Unchanged     int64   `json:"unchanged"`
	Quarantined   int64   `json:"quarantined"`
	Unproven      int     `json:"unproven_files"` // whose end only the closed connection marked
}

// progressColumns are those of a Progress, over an export e and its files f.
const progressColumns = `
	e.state, e.waiting AND e.state = 'starting', e.progress, coalesce(e.progress_percent, -1), count(f.*), count(f.*) FILTER (WHERE f.state = 'loaded'),
	coalesce(sum(f.lines), 0), coalesce(sum(f.bytes), 0), coalesce(sum(f.wire_bytes), 0),
	CASE WHEN count(f.*) = count(f.expected_count) THEN coalesce(sum(f.expected_count), 0) ELSE 0 END,
	coalesce(sum(f.staged), 0), coalesce(sum(f.unchanged), 0), coalesce(sum(f.quarantined), 0), count(f.*) FILTER (WHERE f.unproven)`

// targets are where progressColumns are scanned to.
func (p *Progress) targets() []any {
	return []any{
		&p.State, &p.Waiting, &p.PayerProgress, &p.PayerPercent, &p.Files, &p.FilesLoaded, &p.Lines, &p.Bytes, &p.WireBytes,
		&p.Expected, &p.Staged, &p.Unchanged, &p.Quarantined, &p.Unproven,
	}
}

// Progress returns how far an export is.
func (s *Store) Progress(ctx context.Context, id int64) (Progress, error) {
	var p Progress
	err := s.pool.QueryRow(ctx, `SELECT `+progressColumns+`
		FROM ingest.export AS e LEFT JOIN ingest.export_file AS f ON f.export_id = e.id
		WHERE e.id = $1 GROUP BY e.id`, id).Scan(p.targets()...)
	if err != nil {
		return p, fmt.Errorf("read the progress of export %d: %w", id, err)
	}
	return p, nil
}

// TypeLedger is the ledger of an export for one resource type.
type TypeLedger struct {
	ResourceType string `json:"resource_type"`
	Lines        int64  `json:"lines"`
	Bytes        int64  `json:"bytes"`
	Inserted     int64  `json:"inserted"`
	Updated      int64  `json:"updated"`
	Unchanged    int64  `json:"unchanged"`
	Superseded   int64  `json:"superseded"`
	Deleted      int64  `json:"deleted"`
	Ghosts       int64  `json:"ghosts"`
	Files        int64  `json:"files"`
}

// TypeLedgers returns the ledger of an export by type. Lines and bytes are those of the files that the manifest gives the
// type.
func (s *Store) TypeLedgers(ctx context.Context, id int64) ([]TypeLedger, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT coalesce(t.resource_type, f.resource_type), coalesce(f.lines, 0), coalesce(f.bytes, 0), coalesce(t.inserted, 0),
			coalesce(t.updated, 0), coalesce(t.unchanged, 0), coalesce(t.superseded, 0), coalesce(t.deleted, 0),
			coalesce(t.ghosts, 0), coalesce(f.files, 0)
		FROM (
			SELECT resource_type, inserted, updated, unchanged, superseded, deleted, ghosts
			FROM ingest.export_type WHERE export_id = $1
		) AS t
		FULL JOIN (
			SELECT resource_type, sum(lines)::bigint AS lines, sum(bytes)::bigint AS bytes, count(*) AS files
			FROM ingest.export_file WHERE export_id = $1 AND kind = 'output' GROUP BY resource_type
		) AS f ON f.resource_type = t.resource_type
		ORDER BY 1`, id)
	if err != nil {
		return nil, fmt.Errorf("read the ledger of export %d: %w", id, err)
	}
	ledgers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[TypeLedger])
	if err != nil {
		return nil, fmt.Errorf("read the ledger of export %d: %w", id, err)
	}
	return ledgers, nil
}

// HasLeader reports whether an instance leads the job engine, so that what is enqueued will be worked soon.
func (s *Store) HasLeader(ctx context.Context) (bool, error) {
	var leads bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+EngineSchema+`.river_leader WHERE expires_at > now())`).Scan(&leads)
	if err != nil {
		return false, fmt.Errorf("look for an instance that leads: %w", err)
	}
	return leads, nil
}
