package store

import (
	"context"
	"fmt"
	"time"
)

// moveWatermark stores up to when the payer's data is complete. It never moves back: a job that is older than the last one
// says nothing new (protocol.md MAN-2).
func (p *publisher) moveWatermark(ctx context.Context) error {
	if p.options.Watermark.IsZero() {
		return nil
	}
	types := p.export.Types
	if len(types) == 0 {
		types = []string{""}
	}
	for _, resourceType := range types {
		_, err := p.tx.Exec(ctx, `
			INSERT INTO ingest.watermark AS old (payer, series, resource_type, since, export_id)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (payer, series, resource_type) DO UPDATE
			SET since = excluded.since, export_id = excluded.export_id, updated_at = now()
			WHERE excluded.since > old.since`,
			p.export.Payer, p.export.Series, resourceType, p.options.Watermark, p.export.ID)
		if err != nil {
			return fmt.Errorf("move the watermark: %w", err)
		}
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

// PublishedTypes returns those of the types that have been published in this series, and whether the payer has published anything in
// another one.
func (s *Store) PublishedTypes(ctx context.Context, payer, series string, types []string) (known []string, otherSeries bool, err error) {
	err = s.pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(resource_type ORDER BY resource_type) FILTER (WHERE series = $2 AND resource_type = ANY ($3)), '{}'),
			coalesce(bool_or(series <> $2), false)
		FROM ingest.watermark WHERE payer = $1`, payer, series, types).Scan(&known, &otherSeries)
	if err != nil {
		return nil, false, fmt.Errorf("read what was published of %s: %w", payer, err)
	}
	return known, otherSeries, nil
}
