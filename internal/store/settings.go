package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoSettings says that no settings of that digest are kept.
var ErrNoSettings = errors.New("no such settings")

// Settings are those of a payer that an export begins with. They hold no secret.
type Settings struct {
	Digest string
	JSON   []byte
}

// keepSettingsTx keeps the settings that an export begins with, once for all exports that begin with the same. That they are in use
// again is noted in any case: PruneSettings waits for the lock on the row, and looks at it anew.
func keepSettingsTx(ctx context.Context, tx pgx.Tx, payer string, s Settings) error {
	if s.Digest == "" {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO ingest.settings (payer, digest, settings) VALUES ($1, $2, $3::jsonb)
		ON CONFLICT (payer, digest) DO UPDATE SET created_at = now()`, payer, s.Digest, string(s.JSON))
	if err != nil {
		return fmt.Errorf("keep the settings of %s: %w", payer, err)
	}
	return nil
}

// PruneSettings forgets settings with which no export began for the given time, and which none needs that is not over and cleaned up.
// It returns how many.
func (s *Store) PruneSettings(ctx context.Context, unused time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `
		DELETE FROM ingest.settings AS kept WHERE created_at < now() - $1::interval AND NOT EXISTS (
			SELECT FROM ingest.export WHERE payer = kept.payer AND settings = kept.digest
				AND (cleaned_up_at IS NULL OR created_at >= now() - $1::interval))`, unused)
	if err != nil {
		return 0, fmt.Errorf("forget settings that no export needs: %w", err)
	}
	return tag.RowsAffected(), nil
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
