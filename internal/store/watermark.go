package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// moveWatermark stores up to when the payer's data is complete. It never moves back: a job that is older than the last one
// says nothing new (protocol.md MAN-2). An export of what changed that was granted types which were not before lacks what they held by then: a
// full one is due, and until it is published the watermark keeps the types that are complete (TOK-4, INC-1).
func (p *publisher) moveWatermark(ctx context.Context) error {
	if p.options.Watermark.IsZero() {
		return nil
	}
	e := &p.export
	types := e.Types
	if len(types) == 0 {
		types = []string{""}
	}
	whole := e.Kind == KindFull || p.options.FromBeginning
	for _, resourceType := range types {
		var wantsFull bool
		err := p.tx.QueryRow(ctx, `
			INSERT INTO ingest.watermark AS old (payer, series, resource_type, since, export_id, granted)
			VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (payer, series, resource_type) DO UPDATE
			SET since = excluded.since, export_id = excluded.export_id, updated_at = now(),
				granted = CASE WHEN $7 THEN excluded.granted ELSE `+bothGranted("old.granted", "excluded.granted")+` END,
				wants_full_at = CASE WHEN NOT $7 AND old.granted IS NOT NULL AND coalesce(NOT excluded.granted <@ old.granted, true)
					THEN coalesce(old.wants_full_at, now()) WHEN NOT $7 THEN old.wants_full_at END
			WHERE excluded.since > old.since
				OR $7 AND excluded.since = old.since -- a payer that loads rarely says the same instant again
			RETURNING wants_full_at IS NOT NULL`,
			e.Payer, e.Series, resourceType, p.options.Watermark, e.ID, e.Granted, whole).Scan(&wantsFull)
		if errors.Is(err, pgx.ErrNoRows) {
			continue // it stays where it is
		}
		if err != nil {
			return fmt.Errorf("move the watermark: %w", err)
		}
		e.WantsFull = e.WantsFull || wantsFull
	}
	return nil
}

// Watermark returns up to which instant a payer's data of the given types is complete: the earliest of the types; the zero
// time where one of them has never been published in this series.
func (s *Store) Watermark(ctx context.Context, payer, series string, types []string) (time.Time, error) {
	if len(types) == 0 {
		types = []string{""}
	}
	var known int
	var since *time.Time
	err := s.pool.QueryRow(ctx, `SELECT count(*), min(since) FROM ingest.watermark
		WHERE payer = $1 AND series = $2 AND resource_type = ANY ($3)`, payer, series, types).Scan(&known, &since)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the watermark of %s: %w", payer, err)
	}
	if known < len(types) || since == nil {
		return time.Time{}, nil
	}
	return *since, nil
}

// fullPause is how long exports of what changed go on where a full one that was due has not come to be published in a way that moved the
// watermark: a payer whose data do not fit into one export is to stay fresh.
const fullPause = 7 * 24 * time.Hour

// FullDue reports whether a payer's exports of all types have to be full once, because types are granted that were not before. beginning is
// the _since with which its data are configured to begin; empty for none. It is tried once a week.
func (s *Store) FullDue(ctx context.Context, payer, series, beginning string) (bool, error) {
	var due bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (
		SELECT FROM ingest.watermark AS w
		WHERE payer = $1 AND series = $2 AND resource_type = '' AND wants_full_at IS NOT NULL AND NOT EXISTS (
			SELECT FROM ingest.export AS e
			WHERE e.payer = $1 AND e.series = $2 AND e.types = '{}' AND (e.kind = 'full' OR e.kind = 'incremental' AND e.since = nullif($3, ''))
				AND e.created_at > greatest(w.wants_full_at, now() - $4::interval)))`, payer, series, beginning, fullPause).Scan(&due)
	if err != nil {
		return false, fmt.Errorf("look whether a full export of %s is due: %w", payer, err)
	}
	return due, nil
}

// PublishedTypes returns those of the types that have been published in this series, "" for all of them where none is named, and whether the
// payer has published anything in another one.
func (s *Store) PublishedTypes(ctx context.Context, payer, series string, types []string) (known []string, otherSeries bool, err error) {
	if len(types) == 0 {
		types = []string{""}
	}
	err = s.pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(resource_type ORDER BY resource_type) FILTER (WHERE series = $2 AND resource_type = ANY ($3)), '{}'),
			coalesce(bool_or(series <> $2), false)
		FROM ingest.watermark WHERE payer = $1`, payer, series, types).Scan(&known, &otherSeries)
	if err != nil {
		return nil, false, fmt.Errorf("read what was published of %s: %w", payer, err)
	}
	return known, otherSeries, nil
}
