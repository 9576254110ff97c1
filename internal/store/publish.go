package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/failpoint"
)

// PublishedChannel is the channel of NOTIFY on which each publish is announced, with the export's number.
const PublishedChannel = "ingestd_published"

// PublishOptions say on what conditions an export is published, and what becomes of what it replaces.
type PublishOptions struct {
	// QuarantineMaxShare of lines that could not be loaded fails the export when exceeded.
	QuarantineMaxShare float64
	// AcceptErrors publishes although the payer reported fatal issues or errors.
	AcceptErrors bool
	// ErrorsMaxShare of the lines may be reported as errors by the payer: the export is published, and counts as incomplete.
	ErrorsMaxShare float64
	// GhostMaxShare of the payer's rows holds the export back when more of them would be removed as ghosts.
	GhostMaxShare float64
	// History is none, deletes or all.
	History string
	// Watermark is up to which instant the data is complete when this export is published; zero leaves it where it is.
	Watermark time.Time
	// FromBeginning says of an export of what changed that it asked from where the payer's data are configured to begin: it is as good as full.
	FromBeginning bool
	// Newcomers says what becomes of Patients that were not here before; zero where that says nothing of them.
	Newcomers Newcomers
	// Covers reports whether an export that asked for all types can hold resources of one: of others it removes no ghosts. nil: of all.
	Covers func(resourceType string) bool
	// Partial says that something that was asked for may be missing, so that no newcomers are settled by it.
	Partial bool
	// Attachments says what becomes of content that resources refer to; nil: nothing is fetched.
	Attachments *AttachmentOptions
	// Held is called in the transaction that holds the export back; nil does nothing.
	Held func(ctx context.Context, tx pgx.Tx, held *HeldError) error
	// LockTimeout bounds the wait for readers and other publishes; 5 s if 0. Beyond it the publish fails with SQLSTATE
	// 55P03 and is to be tried again.
	LockTimeout time.Duration
}

// defaultLockTimeout bounds the wait for a lock on what readers use.
const defaultLockTimeout = 5 * time.Second

// Publish makes an export visible as a whole: under the lease on the export it prepares the staging tables, and then in
// one transaction attaches or merges them, applies deletions, removes ghosts, moves the watermark and calls then, whose
// work commits with it. Readers see the old data until that commit and the new data after it, and are never waited for
// longer than LockTimeout.
//
// Attachments are fetched in between; an *AttachmentsLeftError says that some are to be asked for again.
//
// Errors that end the export: *UnbalancedError, *QuarantineError, *PayerErrorsError. A *HeldError says that its state is
// now held. IsStale says that it is published already, or ended otherwise.
func (s *Store) Publish(ctx context.Context, lease *Lease, id int64, o PublishOptions,
	then func(ctx context.Context, tx pgx.Tx) error,
) (Export, error) {
	conn := lease.Conn()
	e, err := exportRow(ctx, conn, `SELECT `+exportColumns+` FROM ingest.export WHERE id = $1`, id)
	if err != nil {
		return e, err
	}
	if e.State != StatePublishing {
		return e, errStale
	}
	types, err := s.prepare(ctx, conn, e)
	if err != nil {
		return e, err
	}
	if o.Attachments != nil {
		if err := s.fetchAttachments(ctx, conn, e, types, *o.Attachments); err != nil {
			return e, err
		}
	}
	err = inPublishTx(ctx, conn, func(tx pgx.Tx) error {
		p := publisher{store: s, tx: tx, options: o}
		if p.export, err = lockRow(ctx, tx, id); err != nil {
			return err
		}
		if p.export.State != StatePublishing {
			return errStale
		}
		if err := p.publish(ctx, types); err != nil {
			return err
		}
		e = p.export
		return then(ctx, tx)
	})
	if held, ok := errors.AsType[*HeldError](err); ok {
		if err := s.holdBack(ctx, conn, id, held, o.Held); err != nil {
			return e, err
		}
	}
	return e, err
}

// HeldCode and HeldHint are what is said of an export that is held back.
const (
	HeldCode = "ghost_guard"
	HeldHint = "look whether the payer really dropped them; then 'ingestd exports release' or 'ingestd exports reject'"
)

func (s *Store) holdBack(ctx context.Context, conn *pgx.Conn, id int64, held *HeldError, then func(context.Context, pgx.Tx, *HeldError) error) error {
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		err := change(ctx, tx, `UPDATE ingest.export SET state = 'held', error_code = $3, error = $2, hint = $4
			WHERE id = $1 AND state = 'publishing'`, id, held.Error(), HeldCode, HeldHint)
		if err != nil {
			return err
		}
		if err := s.auditExportTx(ctx, tx, id, ActionExportHold, map[string]any{"code": HeldCode}); err != nil || then == nil {
			return err
		}
		return then(ctx, tx, held)
	})
}

// publisher is the publish transaction.
type publisher struct {
	store   *Store
	tx      pgx.Tx
	export  Export
	options PublishOptions
}

func (p *publisher) publish(ctx context.Context, types []string) error {
	timeout := cmp.Or(p.options.LockTimeout, defaultLockTimeout)
	if _, err := p.tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, timeout.Milliseconds())); err != nil {
		return fmt.Errorf("bound the wait for locks: %w", err)
	}
	if err := p.readLedger(ctx); err != nil {
		return err
	}
	if err := p.checkStaging(ctx, types); err != nil {
		return err
	}
	if err := p.checkDeletions(ctx); err != nil {
		return err
	}
	if err := p.checkOutcomes(ctx); err != nil {
		return err
	}
	for _, resourceType := range types {
		if err := p.publishType(ctx, resourceType); err != nil {
			return fmt.Errorf("publish %s: %w", resourceType, err)
		}
		failpoint.Here(failpoint.PublishInside)
	}
	if err := p.applyDeletions(ctx, types); err != nil {
		return err
	}
	if err := p.removeGhosts(ctx, types); err != nil {
		return err
	}
	if err := p.publishAttachments(ctx); err != nil {
		return err
	}
	if err := p.moveWatermark(ctx); err != nil {
		return err
	}
	if err := p.settleNewcomers(ctx); err != nil {
		return err
	}
	return p.finish(ctx)
}

func (p *publisher) finish(ctx context.Context) error {
	e := &p.export
	err := p.tx.QueryRow(ctx, `
		UPDATE ingest.export
		SET state = 'published', finished_at = now(), job_due_at = now(), error_code = '', error = '', hint = '', lines = $2, bytes = $3,
			wire_bytes = $4, inserted = $5, updated = $6, unchanged = $7, superseded = $8, deleted = $9, ghosts = $10,
			quarantined = $11
		WHERE id = $1
		RETURNING state, finished_at`,
		e.ID, e.Lines, e.Bytes, e.WireBytes, e.Inserted, e.Updated, e.Unchanged, e.Superseded, e.Deleted, e.Ghosts,
		e.Quarantined).Scan(&e.State, &e.FinishedAt)
	if err != nil {
		return fmt.Errorf("record the publish: %w", err)
	}
	err = p.store.auditExportTx(ctx, p.tx, e.ID, ActionExportPublish, map[string]any{
		"lines": e.Lines, "inserted": e.Inserted, "updated": e.Updated, "deleted": e.Deleted, "ghosts": e.Ghosts, "quarantined": e.Quarantined,
	})
	if err != nil {
		return err
	}
	if _, err := p.tx.Exec(ctx, `SELECT pg_notify($1, $2)`, PublishedChannel, strconv.FormatInt(e.ID, 10)); err != nil {
		return fmt.Errorf("announce the publish: %w", err)
	}
	return nil
}
