package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// BeginKickOff notes that a kick-off is about to be sent, and reports whether the answer to an earlier one was lost: the
// payer may then be at work on an export of ours that nobody polls (protocol.md KICK-7). covers tells whether the authorization lets
// resources of a type be read, nil that it does of all: of an export whose kick-off is in doubt, the types count that it did at each of them.
func (s *Store) BeginKickOff(ctx context.Context, id int64, generation int, covers func(resourceType string) bool) (inDoubt bool, err error) {
	err = s.pool.QueryRow(ctx, `
		UPDATE ingest.export SET kick_off_in_doubt = true,
			granted = CASE WHEN before.was THEN `+bothGranted("export.granted", "$3::text[]")+` ELSE $3 END
		FROM (SELECT kick_off_in_doubt AS was FROM ingest.export WHERE id = $1 FOR UPDATE) AS before
		WHERE id = $1 AND generation = $2 AND state = 'starting'
		RETURNING before.was`, id, generation, grantedTypes(covers)).Scan(&inDoubt)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errStale
	}
	if err != nil {
		return false, fmt.Errorf("note a kick-off: %w", err)
	}
	return inDoubt, nil
}

// EndKickOff notes that a kick-off was answered with a refusal; inDoubt says whether an earlier one still may have started
// an export.
func (s *Store) EndKickOff(ctx context.Context, id int64, generation int, inDoubt bool) error {
	return change(ctx, s.pool, `UPDATE ingest.export SET kick_off_in_doubt = $3
		WHERE id = $1 AND generation = $2 AND state = 'starting'`, id, generation, inDoubt)
}

// ExportAt returns the payer's newest export, other than the given one, whose status is asked for at this URL; ErrNoExport
// where the URL is not known.
func (s *Store) ExportAt(ctx context.Context, payer, statusURL string, other int64) (Export, error) {
	return exportRow(ctx, s.pool, `SELECT `+exportColumns+` FROM ingest.export
		WHERE payer = $1 AND status_url = $2 AND id <> $3 ORDER BY id DESC LIMIT 1`, payer, cleanText(statusURL), other)
}

// AdoptTx makes an export go on with one that the payer runs already: starting → polling. It was kicked off after the
// export was recorded, which is all that is known of when.
func (s *Store) AdoptTx(ctx context.Context, tx pgx.Tx, id int64, generation int, statusURL string) error {
	return change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'polling', adopted = true, status_url = $3, kick_off_date = created_at, kicked_off_at = now(),
			job_due_at = now(), polls = 0, progress = '', progress_percent = NULL, trouble_at = NULL
		WHERE id = $1 AND generation = $2 AND state = 'starting'`, id, generation, cleanText(statusURL))
}

// DisownTx undoes AdoptTx for an export that turned out to be somebody else's: polling → starting. Nothing of it was staged,
// and it is not to be ended at the payer.
func (s *Store) DisownTx(ctx context.Context, tx pgx.Tx, id int64, generation int) error {
	return change(ctx, tx, `
		UPDATE ingest.export
		SET state = 'starting', adopted = false, kick_off_in_doubt = false, status_url = '', kick_off_date = NULL,
			generation = generation + 1, job_due_at = now(), progress = '', progress_percent = NULL
		WHERE id = $1 AND generation = $2 AND state = 'polling'`, id, generation)
}

// AtWork returns one of the payers for whom the server works, or is about to be asked, on an export: that is being kicked off and
// earlier than the given one, or that has been. It returns "" where there is none.
func (s *Store) AtWork(ctx context.Context, payers []string, id int64) (string, error) {
	var payer string
	err := s.pool.QueryRow(ctx, `SELECT coalesce(min(payer), '') FROM ingest.export
		WHERE payer = ANY ($1) AND (state = 'polling' OR state = 'starting' AND NOT waiting AND id < $2)`, payers, id).Scan(&payer)
	if err != nil {
		return "", fmt.Errorf("look for exports of the same client: %w", err)
	}
	return payer, nil
}
