package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CountMismatchError says that a file does not hold as many lines as the manifest promised (Bulk Data 3.0, output.count).
type CountMismatchError struct {
	Ordinal   int
	Want, Got int64
}

func (e *CountMismatchError) Error() string {
	return fmt.Sprintf("file %d holds %d lines, the manifest promised %d", e.Ordinal, e.Got, e.Want)
}

// MismatchError wraps the word of a source that what it gave was whole, and not what the manifest says.
type MismatchError struct{ Err error }

func (e *MismatchError) Error() string { return e.Err.Error() }

// Unwrap returns the source's error.
func (e *MismatchError) Unwrap() error { return e.Err }

// IsMismatch reports whether a file was whole, and not what the manifest says: by its lines, or by its source's word.
func IsMismatch(err error) bool {
	var lines *CountMismatchError
	var other *MismatchError
	return errors.As(err, &lines) || errors.As(err, &other)
}

// resetFile voids what was staged of a file, so that it is loaded from its beginning, and counts a mismatch.
func (s *Store) resetFile(ctx context.Context, conn *pgx.Conn, f File, mismatch bool) error {
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		err := change(ctx, tx, `
			UPDATE ingest.export_file
			SET line_number = 0, lines = 0, bytes = 0, prefix_digest = NULL, staged = 0, unchanged = 0, deletions = 0,
				quarantined = 0, outcomes = 0, subsetted = 0, headers = 0, repaired = 0, chunks = 0,
				mismatches = mismatches + $3::boolean::integer
			WHERE export_id = $1 AND ordinal = $2 AND state = 'queued'`, f.ExportID, f.Ordinal, mismatch)
		if err != nil {
			return err
		}
		names, err := stagingTables(ctx, tx, f.ExportID)
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := tx.Exec(ctx, `DELETE FROM `+quote(stageSchema, name)+` WHERE file = $1`, f.Ordinal); err != nil {
				return fmt.Errorf("void what was staged of a file: %w", err)
			}
		}
		for _, table := range []string{"quarantine", "outcome"} {
			_, err := tx.Exec(ctx, `DELETE FROM ingest.`+table+` WHERE export_id = $1 AND file = $2`, f.ExportID, f.Ordinal)
			if err != nil {
				return fmt.Errorf("void what was staged of a file: %w", err)
			}
		}
		return nil
	})
}
