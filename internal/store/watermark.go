package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// moveWatermark stores up to when the payer's data is complete. It never moves back: a job that is older than the last one
// says nothing new (protocol.md MAN-2). An export of what changed that was granted types which were not before lacks what they held by then:
// the next one is to be full, and until it is published the watermark moves on for what is shown, and is no _since (TOK-4, INC-1).
func (p *publisher) moveWatermark(ctx context.Context) error {
	if p.options.Watermark.IsZero() {
		return nil
	}
	e := &p.export
	types := e.Types
	if len(types) == 0 {
		types = []string{""}
	}
	for _, resourceType := range types {
		var wantsFull bool
		err := p.tx.QueryRow(ctx, `
			INSERT INTO ingest.watermark AS old (payer, series, resource_type, since, export_id, granted)
			VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (payer, series, resource_type) DO UPDATE
			SET since = excluded.since, export_id = excluded.export_id, updated_at = now(),
				granted = CASE WHEN $7 THEN excluded.granted ELSE `+bothGranted("old.granted", "excluded.granted")+` END,
				wants_full = NOT $7 AND (old.wants_full OR old.granted IS NOT NULL AND coalesce(NOT excluded.granted <@ old.granted, true))
			WHERE excluded.since > old.since
			RETURNING wants_full`,
			e.Payer, e.Series, resourceType, p.options.Watermark, e.ID, e.Granted, e.Kind == KindFull).Scan(&wantsFull)
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

// bothGranted is the SQL for the types that are in both of two lists, of which NULL is the one of all.
func bothGranted(a, b string) string {
	return fmt.Sprintf(`CASE WHEN %[1]s IS NULL THEN %[2]s WHEN %[2]s IS NULL THEN %[1]s
		ELSE ARRAY(SELECT unnest(%[1]s) INTERSECT SELECT unnest(%[2]s) ORDER BY 1) END`, a, b)
}

// Watermark returns up to which instant a payer's data of the given types is complete: the earliest of the types; the zero
// time where one of them has never been published in this series, or where a full export has to come first.
func (s *Store) Watermark(ctx context.Context, payer, series string, types []string) (time.Time, error) {
	if len(types) == 0 {
		types = []string{""}
	}
	var known int
	var since *time.Time
	err := s.pool.QueryRow(ctx, `SELECT count(*), min(since) FROM ingest.watermark
		WHERE payer = $1 AND series = $2 AND resource_type = ANY ($3) AND NOT wants_full`, payer, series, types).Scan(&known, &since)
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
