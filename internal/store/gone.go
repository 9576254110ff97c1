package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// GoneError says that there was an export of that number, of which the audit alone tells now. It is an ErrNoExport.
type GoneError struct {
	ID    int64
	Payer string
	// Removed says that all that was stored of its payer was removed later; else it is older than retention.exports.
	Removed bool
}

func (e *GoneError) Error() string {
	if e.Removed {
		return "no such export any more: it was removed with all that was stored of " + e.Payer
	}
	return "no such export any more: it was one of " + e.Payer + ", and is older than retention.exports"
}

// Is reports whether the target is ErrNoExport.
func (*GoneError) Is(target error) bool { return target == ErrNoExport }

// gone tells of an export that there is none of whether there was: a *GoneError then, else ErrNoExport.
func (s *Store) gone(ctx context.Context, id int64) error {
	e := &GoneError{ID: id}
	err := s.pool.QueryRow(ctx, `
		SELECT details ->> 'payer', EXISTS (
			SELECT FROM ingest.audit_event AS removal
			WHERE removal.object = 'payer ' || (began.details ->> 'payer') AND removal.action = $3 AND removal.id > began.id)
		FROM ingest.audit_event AS began WHERE object = $1 AND action = $2 AND details ? 'payer' ORDER BY id LIMIT 1`,
		ExportObject(id), ActionExportStart, ActionRemovePayer).Scan(&e.Payer, &e.Removed)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoExport
	}
	if err != nil {
		return fmt.Errorf("look for export %d in the audit: %w", id, err)
	}
	return e
}
