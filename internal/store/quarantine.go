package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// QuarantinedLine is a line that could not be loaded. What it holds is asked for by itself: see ShowQuarantined.
type QuarantinedLine struct {
	ID           int64
	ExportID     int64
	Payer        string
	File         int   // ordinal in the export
	Line         int64 // in the file, from 1
	ByteOffset   int64 // of the line's end in the decompressed file
	Reason       string
	Detail       string // what was expected; holds nothing of the line
	ResourceType string
	RawBytes     int64 // length of the line; more than is kept of a very long one
	CreatedAt    time.Time
	Result       string // loaded where a retry has loaded it since
}

// QuarantineFilter chooses lines; zero values choose all.
type QuarantineFilter struct {
	Payer    string
	ExportID int64
	Reason   string
	// Loaded chooses lines that a retry has loaded since, too.
	Loaded bool
}

const quarantineColumns = `id, export_id, payer, file, line, byte_offset, reason, detail, resource_type, raw_bytes, created_at, result`

// ErrNoQuarantinedLine says that there is no quarantined line of that number.
var ErrNoQuarantinedLine = errors.New("no such line in quarantine")

// Quarantine lists quarantined lines, the newest export first and in the order of its files.
func (s *Store) Quarantine(ctx context.Context, f QuarantineFilter, limit int) ([]QuarantinedLine, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+quarantineColumns+` FROM ingest.quarantine
		WHERE ($1 = '' OR payer = $1) AND ($2 = 0 OR export_id = $2) AND ($3 = '' OR reason = $3) AND ($5 OR result = '')
		ORDER BY export_id DESC, file, line, id LIMIT $4`, f.Payer, f.ExportID, f.Reason, limit, f.Loaded)
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[QuarantinedLine])
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	return lines, nil
}

// ShowQuarantined returns a quarantined line and what was kept of it, as the payer sent it: PHI. Who looked is in the audit before it is
// returned. ErrNoQuarantinedLine where there is none of that number.
func (s *Store) ShowQuarantined(ctx context.Context, id int64, by Actor) (line QuarantinedLine, raw []byte, err error) {
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+quarantineColumns+` FROM ingest.quarantine WHERE id = $1`, id)
		if err != nil {
			return fmt.Errorf("read line %d of the quarantine: %w", id, err)
		}
		line, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[QuarantinedLine])
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoQuarantinedLine
		}
		if err != nil {
			return fmt.Errorf("read line %d of the quarantine: %w", id, err)
		}
		if err := tx.QueryRow(ctx, `SELECT raw FROM ingest.quarantine WHERE id = $1`, id).Scan(&raw); err != nil {
			return fmt.Errorf("read line %d of the quarantine: %w", id, err)
		}
		return s.AuditTx(ctx, tx, by, ActionShowQuarantine, ExportObject(line.ExportID), map[string]any{
			"payer": line.Payer, "quarantined_line": id, "file": line.File, "line": line.Line,
		})
	})
	if err != nil {
		return line, nil, err
	}
	return line, raw, nil
}
