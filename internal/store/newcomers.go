package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Newcomers says what becomes of Patients that an incremental export of a group brings for the first time. Many servers leave
// what they had before they joined out of it (Bulk Data 3.0, Group Membership Request Pattern; protocol.md INC-5).
type Newcomers string

// What becomes of newcomers.
const (
	// NewcomersBackfill asks for all data of these patients alone.
	NewcomersBackfill Newcomers = "backfill"
	// NewcomersFull makes the next export a full one.
	NewcomersFull Newcomers = "full"
)

// noteNewcomers records the Patients that the payer's partition does not hold yet. It has to come before they are merged. Where there is
// no partition, the group was empty until now and all are new: unless nothing was published in this series, whose first export may begin at a
// configured instant, and what lies before that nobody asks for.
func (p *publisher) noteNewcomers(ctx context.Context, resourceType, table string, live bool) error {
	if resourceType != "Patient" || p.options.Newcomers == "" {
		return nil
	}
	e := &p.export
	const complete = ` FROM ingest.watermark WHERE payer = $1 AND series = $4 AND resource_type IN ('', 'Patient')`
	isNew := `EXISTS (SELECT` + complete + `)`
	if live {
		isNew = `NOT EXISTS (SELECT FROM ` + quote(p.store.schema, partition(table, e.Payer)) + ` AS live WHERE live.payer = $1 AND live.id = stage.id)`
	}
	// Where Patients were not granted until now, they are not the new ones, and a full export is due for all of them.
	isNew += ` AND NOT EXISTS (SELECT` + complete + ` AND NOT coalesce('Patient' = ANY (granted), true))`
	_, err := p.tx.Exec(ctx, `
		INSERT INTO ingest.newcomer (payer, patient_id, found_by, wants_full)
		SELECT $1, stage.id, $2, $3 OR EXISTS (
			SELECT FROM ingest.payer WHERE payer = $1 AND backfill_refused_at IS NOT NULL)
		FROM `+quote(stageSchema, stageName(e.ID, table))+` AS stage
		WHERE `+isNew+`
		ON CONFLICT DO NOTHING`, e.Payer, e.ID, p.options.Newcomers == NewcomersFull, e.Series)
	if err != nil {
		return fmt.Errorf("note the newcomers: %w", err)
	}
	return nil
}

// lacksTypes reports whether a back-fill was granted less than the exports that its patients were found in: what it lacks of them, the next
// ones would not bring either.
func (p *publisher) lacksTypes(ctx context.Context) (lacks bool, err error) {
	e := &p.export
	if e.Kind != KindBackfill || e.Granted == nil {
		return false, nil
	}
	err = p.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.watermark WHERE payer = $1 AND series = $2 AND resource_type = ''
		AND coalesce(NOT granted <@ $3, true))`, e.Payer, e.Series, e.Granted).Scan(&lacks)
	if err != nil {
		return false, fmt.Errorf("compare what a back-fill was granted: %w", err)
	}
	return lacks, nil
}

// ofUnknownRequest reports whether an export was adopted at a payer that tells no transactionTime: whose request it was is not known.
func (e Export) ofUnknownRequest() bool { return e.Adopted && e.TransactionAt.IsZero() }

// settleNewcomers forgets the newcomers whose data this export brought: those that it asked for, or all who were known when a
// full export was started. Of an export that lacks something, or may, nobody knows whether it is theirs: they are asked for again, after
// all others.
func (p *publisher) settleNewcomers(ctx context.Context) error {
	e := &p.export
	lacking, err := p.lacksTypes(ctx)
	if err != nil {
		return err
	}
	if lacking || p.options.Partial || e.ofUnknownRequest() {
		_, err = p.tx.Exec(ctx, `UPDATE ingest.newcomer SET created_at = now() WHERE payer = $1 AND patient_id = ANY ($2)`, e.Payer, e.Patients)
		if err != nil {
			return fmt.Errorf("put the newcomers off: %w", err)
		}
		return nil
	}
	switch e.Kind {
	case KindBackfill:
		_, err = p.tx.Exec(ctx, `DELETE FROM ingest.newcomer WHERE payer = $1 AND patient_id = ANY ($2)`, e.Payer, e.Patients)
	case KindFull:
		if e.Trigger == TriggerNewTypes {
			return nil // it holds a part of what there is of them
		}
		// A job that the payer kept may be of before they joined.
		if behind, err := p.isBehind(ctx); err != nil || behind {
			return err
		}
		_, err = p.tx.Exec(ctx, `DELETE FROM ingest.newcomer WHERE payer = $1 AND created_at <= $2`, e.Payer, e.CreatedAt)
	case KindIncremental:
	}
	if err != nil {
		return fmt.Errorf("settle the newcomers: %w", err)
	}
	return nil
}

// NewcomersTx returns up to limit patients of a payer whose data is to be asked for alone, the oldest first. Those that a back-fill did
// not bring whole since the last export are left to the next: to ask for them at once would be in vain, and again and again.
func (s *Store) NewcomersTx(ctx context.Context, tx pgx.Tx, payer string, limit int) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT patient_id FROM ingest.newcomer WHERE payer = $1 AND NOT wants_full
			AND created_at <= (SELECT max(finished_at) FROM ingest.export WHERE payer = $1 AND state = 'published' AND kind <> 'backfill')
		ORDER BY created_at, patient_id LIMIT $2`, payer, limit)
	if err != nil {
		return nil, fmt.Errorf("list the newcomers of %s: %w", payer, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the newcomers of %s: %w", payer, err)
	}
	return ids, nil
}

// WantsFull reports whether the payer's next export is to be a full one, for the sake of newcomers.
func (s *Store) WantsFull(ctx context.Context, payer string) (bool, error) {
	var wanted bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.newcomer WHERE payer = $1 AND wants_full)`, payer).Scan(&wanted)
	if err != nil {
		return false, fmt.Errorf("look for newcomers of %s: %w", payer, err)
	}
	return wanted, nil
}

// RefuseBackfillTx notes that the payer does not export single patients: its newcomers, and those to come, make the next
// export a full one.
func (s *Store) RefuseBackfillTx(ctx context.Context, tx pgx.Tx, payer string) error {
	for _, sql := range []string{
		`INSERT INTO ingest.payer (payer, backfill_refused_at) VALUES ($1, now())
			ON CONFLICT (payer) DO UPDATE SET backfill_refused_at = now()`,
		`UPDATE ingest.newcomer SET wants_full = true WHERE payer = $1`,
	} {
		if _, err := tx.Exec(ctx, sql, payer); err != nil {
			return fmt.Errorf("note that %s exports no single patients: %w", payer, err)
		}
	}
	return nil
}
