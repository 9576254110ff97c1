package store

import (
	"context"
	"fmt"
)

// NoteBase stores a payer's FHIR base URL, and returns the one that was stored before; empty for a payer that is new.
func (s *Store) NoteBase(ctx context.Context, payer, fhirURL string) (before string, err error) {
	err = s.pool.QueryRow(ctx, `
		WITH before AS (SELECT fhir_url FROM ingest.payer WHERE payer = $1)
		INSERT INTO ingest.payer (payer, fhir_url) VALUES ($1, $2)
		ON CONFLICT (payer) DO UPDATE SET fhir_url = excluded.fhir_url
		RETURNING coalesce((SELECT fhir_url FROM before), '')`, payer, fhirURL).Scan(&before)
	if err != nil {
		return "", fmt.Errorf("note the base URL of %s: %w", payer, err)
	}
	return before, nil
}
