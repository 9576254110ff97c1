package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrNoSettings says that no settings of that digest are kept.
var ErrNoSettings = errors.New("no such settings")

// Settings are those of a payer that an export begins with. They hold no secret.
type Settings struct {
	Digest string
	JSON   []byte
}

// keepSettingsTx keeps the settings that an export begins with, once for all exports that begin with the same.
func keepSettingsTx(ctx context.Context, tx pgx.Tx, payer string, s Settings) error {
	if s.Digest == "" {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO ingest.settings (payer, digest, settings) VALUES ($1, $2, $3::jsonb)
		ON CONFLICT DO NOTHING`, payer, s.Digest, string(s.JSON))
	if err != nil {
		return fmt.Errorf("keep the settings of %s: %w", payer, err)
	}
	return nil
}

// Settings returns the settings that an export of the payer began with; ErrNoSettings where there are none of that digest.
func (s *Store) Settings(ctx context.Context, payer, digest string) (Settings, error) {
	var text string
	err := s.pool.QueryRow(ctx, `SELECT settings::text FROM ingest.settings WHERE payer = $1 AND digest = $2`, payer, digest).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return Settings{}, ErrNoSettings
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read the settings of %s: %w", payer, err)
	}
	return Settings{Digest: digest, JSON: []byte(text)}, nil
}
