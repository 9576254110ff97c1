package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/failpoint"
	"ingestd/internal/fhir"
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

// UnbalancedError says that an export's ledger does not account for every line, or deletion, or prepared type: something was lost or
// doubled, and nothing is published.
type UnbalancedError struct {
	Of               string // what was counted; empty: lines
	Lines, Accounted int64
}

func (e *UnbalancedError) Error() string {
	return fmt.Sprintf("the ledger does not balance: %d %s were read, %d are accounted for", e.Lines, cmp.Or(e.Of, "lines"), e.Accounted)
}

// QuarantineError says that too many lines could not be loaded.
type QuarantineError struct {
	Quarantined, Lines int64
	MaxShare           float64
}

func (e *QuarantineError) Error() string {
	return fmt.Sprintf("%d of %d lines could not be loaded, more than the share of %g that load.quarantine_max_share permits",
		e.Quarantined, e.Lines, e.MaxShare)
}

// PayerErrorsError says that the payer reported that its export is not whole.
type PayerErrorsError struct{ Issues int64 }

func (e *PayerErrorsError) Error() string {
	return fmt.Sprintf("the payer reported %d issues of severity fatal or error: the export is not whole", e.Issues)
}

// HeldError says that the export was held back: it would remove more rows than the guard permits.
type HeldError struct {
	Ghosts, Rows int64
	MaxShare     float64
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("it no longer holds %d of %d resources that are published, more than the share of %g that "+
		"load.ghost_max_share permits", e.Ghosts, e.Rows, e.MaxShare)
}

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

// readLedger adds up the files and types, and refuses an export in which a line is unaccounted for.
func (p *publisher) readLedger(ctx context.Context) error {
	e := &p.export
	var apart, quarantinedLines, staged int64 // apart: lines that are no resources
	err := p.tx.QueryRow(ctx, `
		SELECT coalesce(sum(lines) FILTER (WHERE kind = 'output'), 0), coalesce(sum(bytes), 0), coalesce(sum(wire_bytes), 0),
			coalesce(sum(quarantined), 0), coalesce(sum(quarantined) FILTER (WHERE kind = 'output'), 0),
			coalesce(sum(outcomes + headers) FILTER (WHERE kind = 'output'), 0)
		FROM ingest.export_file WHERE export_id = $1`, e.ID).
		Scan(&e.Lines, &e.Bytes, &e.WireBytes, &e.Quarantined, &quarantinedLines, &apart)
	if err != nil {
		return fmt.Errorf("add up the files: %w", err)
	}
	err = p.tx.QueryRow(ctx, `
		SELECT coalesce(sum(staged), 0), coalesce(sum(unchanged), 0), coalesce(sum(superseded), 0)
		FROM ingest.export_type WHERE export_id = $1`, e.ID).Scan(&staged, &e.Unchanged, &e.Superseded)
	if err != nil {
		return fmt.Errorf("add up the types: %w", err)
	}
	if accounted := staged + e.Unchanged + e.Superseded + quarantinedLines + apart; accounted != e.Lines {
		return &UnbalancedError{Lines: e.Lines, Accounted: accounted}
	}
	if float64(e.Quarantined) > p.options.QuarantineMaxShare*float64(e.Lines) {
		return &QuarantineError{Quarantined: e.Quarantined, Lines: e.Lines, MaxShare: p.options.QuarantineMaxShare}
	}
	return nil
}

// checkOutcomes refuses an export of which the payer itself says that it is not whole (protocol.md MAN-5). Warnings are no
// such word.
func (p *publisher) checkOutcomes(ctx context.Context) error {
	var errs, fatal int64
	err := p.tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE severity = 'error'), count(*) FILTER (WHERE severity = 'fatal')
		FROM ingest.outcome WHERE export_id = $1`, p.export.ID).Scan(&errs, &fatal)
	if err != nil {
		return fmt.Errorf("count the payer's issues: %w", err)
	}
	switch {
	case errs+fatal == 0:
		return nil
	case p.options.AcceptErrors:
	case fatal > 0, float64(errs) > p.options.ErrorsMaxShare*float64(p.export.Lines):
		return &PayerErrorsError{Issues: errs + fatal}
	default:
		p.options.Watermark = time.Time{} // what the errors are about is asked for again
		p.options.Partial = true
	}
	p.export.RemovesGhosts = false // what is missing may be what the errors are about
	return nil
}

func (p *publisher) publishType(ctx context.Context, resourceType string) error {
	e := &p.export
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	live, err := p.store.hasPartition(ctx, p.tx, table, e.Payer)
	if err != nil {
		return err
	}
	var inserted, updated int64
	if err := p.noteNewcomers(ctx, resourceType, table, live); err != nil {
		return err
	}
	if live {
		if err := p.replaceAttachments(ctx, resourceType, table); err != nil {
			return err
		}
		inserted, updated, err = p.merge(ctx, table)
	} else {
		inserted, err = p.attach(ctx, resourceType, table)
	}
	if err != nil {
		return err
	}
	e.Inserted += inserted
	e.Updated += updated
	var staged int64
	err = p.tx.QueryRow(ctx, `UPDATE ingest.export_type SET inserted = $3, updated = $4
		WHERE export_id = $1 AND resource_type = $2 RETURNING staged`, e.ID, resourceType, inserted, updated).Scan(&staged)
	if err != nil {
		return fmt.Errorf("note the rows: %w", err)
	}
	if inserted+updated != staged { // they were counted when they were prepared, which may be long ago
		return &UnbalancedError{Of: "rows", Lines: staged, Accounted: inserted + updated}
	}
	return nil
}

// attach makes the staging table the payer's partition: no row is copied, and nobody is kept waiting but another attach.
func (p *publisher) attach(ctx context.Context, resourceType, table string) (int64, error) {
	e := &p.export
	var rows int64
	var now time.Time
	err := p.tx.QueryRow(ctx, `SELECT staged, now() FROM ingest.export_type WHERE export_id = $1 AND resource_type = $2`,
		e.ID, resourceType).Scan(&rows, &now)
	if err != nil {
		return 0, fmt.Errorf("read the number of rows: %w", err)
	}
	name := partition(table, e.Payer)
	stage, part := quote(stageSchema, stageName(e.ID, table)), quote(p.store.schema, name)
	for _, sql := range []string{
		fmt.Sprintf(`ALTER TABLE %s DROP COLUMN file, DROP COLUMN line,
			ADD COLUMN export_id bigint NOT NULL DEFAULT %d,
			ADD COLUMN ingested_at timestamptz NOT NULL DEFAULT %s`, stage, e.ID, literal(now.Format(time.RFC3339Nano))),
		fmt.Sprintf(`ALTER TABLE %s ALTER COLUMN payer DROP DEFAULT, ALTER COLUMN export_id DROP DEFAULT,
			ALTER COLUMN ingested_at SET DEFAULT now()`, stage),
		fmt.Sprintf(`ALTER TABLE %s RENAME TO %s`, stage, quote(name)),
		fmt.Sprintf(`ALTER TABLE %s SET SCHEMA %s`, quote(stageSchema, name), quote(p.store.schema)),
		fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%s)`,
			quote(p.store.schema, table), part, literal(e.Payer)),
		fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT payer_is`, part),
	} {
		if _, err := p.tx.Exec(ctx, sql); err != nil {
			return 0, fmt.Errorf("attach the partition: %w", err)
		}
	}
	return rows, nil
}

// merge writes the staged rows, which all differ from what is published, into the payer's partition.
func (p *publisher) merge(ctx context.Context, table string) (inserted, updated int64, err error) {
	e := &p.export
	live, stage := quote(p.store.schema, partition(table, e.Payer)), quote(stageSchema, stageName(e.ID, table))
	if p.options.History == "all" {
		_, err := p.tx.Exec(ctx, fmt.Sprintf(`
			INSERT INTO %s (payer, id, version_id, last_updated, patient_id, resource, digest, export_id, valid_from, valid_to,
				ended_by, reason)
			SELECT live.payer, live.id, live.version_id, live.last_updated, live.patient_id, live.resource, live.digest,
				live.export_id, live.ingested_at, now(), $2, 'updated'
			FROM %s AS live JOIN %s AS stage ON stage.id = live.id
			WHERE live.payer = $1`, quote(p.store.history, table), live, stage), e.Payer, e.ID)
		if err != nil {
			return 0, 0, fmt.Errorf("keep the versions that are replaced: %w", err)
		}
	}
	err = p.tx.QueryRow(ctx, fmt.Sprintf(`
		WITH merged AS (
			INSERT INTO %s AS live (payer, id, version_id, last_updated, patient_id, resource, digest, export_id, ingested_at)
			SELECT $1, id, version_id, last_updated, patient_id, resource, digest, $2, now() FROM %s
			ON CONFLICT (payer, id) DO UPDATE SET version_id = excluded.version_id, last_updated = excluded.last_updated,
				patient_id = excluded.patient_id, resource = excluded.resource, digest = excluded.digest,
				export_id = excluded.export_id, ingested_at = excluded.ingested_at
			RETURNING xmax = 0 AS inserted
		)
		SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM merged`, live, stage),
		e.Payer, e.ID).Scan(&inserted, &updated)
	if err != nil {
		return 0, 0, fmt.Errorf("merge the changed rows: %w", err)
	}
	return inserted, updated, nil
}

// applyDeletions removes what the payer's deleted files name. A resource that the same export also holds stays
// (protocol.md DEL-2), and so does one that an export of a later instant brought; one that is not there is no fault.
func (p *publisher) applyDeletions(ctx context.Context, staged []string) error {
	e := &p.export
	deleted := quote(stageSchema, deletedName(e.ID))
	if exists, err := p.hasDeleted(ctx); err != nil || !exists {
		return err
	}
	rows, err := p.tx.Query(ctx, `SELECT DISTINCT resource_type FROM `+deleted)
	if err != nil {
		return fmt.Errorf("list the types of the deletions: %w", err)
	}
	named, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the types of the deletions: %w", err)
	}
	slices.Sort(named)
	for _, resourceType := range named {
		if !fhir.KnownType(resourceType) {
			continue // nothing of an unknown type was ever published
		}
		n, err := p.remove(ctx, resourceType, staged, "deleted", p.options.History != "none",
			`AND live.id IN (SELECT id FROM `+deleted+` WHERE resource_type = `+literal(resourceType)+`)
			AND NOT `+ofLaterExport("live", e.ID))
		if err != nil {
			return fmt.Errorf("delete from %s: %w", resourceType, err)
		}
		e.Deleted += n
	}
	return nil
}

// removeGhosts removes what a complete full export no longer holds, unless that is more than the guard permits.
func (p *publisher) removeGhosts(ctx context.Context, staged []string) error {
	e := &p.export
	// A line that could not be loaded may be the very resource that seems to be missing.
	// Organized output may leave out what does not belong to any instance (MAN-12).
	if !e.RemovesGhosts || e.OrganizedBy != "" || e.Quarantined > 0 {
		return nil
	}
	if e.ofUnknownRequest() {
		return nil
	}
	if behind, err := p.isBehind(ctx); err != nil || behind {
		return err
	}
	if proven, err := p.isProven(ctx); err != nil || !proven {
		return err
	}
	types := e.Types
	if len(types) == 0 {
		types = fhir.Types()
		if p.options.Covers != nil {
			types = slices.DeleteFunc(types, func(resourceType string) bool { return !p.options.Covers(resourceType) })
		}
	}
	types, err := p.store.typesWithPartition(ctx, p.tx, types, e.Payer)
	if err != nil {
		return err
	}
	var before int64 // rows of these types that were published before
	for _, resourceType := range types {
		table, err := tableName(resourceType)
		if err != nil {
			return err
		}
		var left, inserted, held int64
		err = p.tx.QueryRow(ctx, `
			SELECT (SELECT count(*) FROM `+quote(p.store.schema, partition(table, e.Payer))+`), coalesce(sum(inserted), 0),
				coalesce(sum(standing + inserted + updated), 0)
			FROM ingest.export_type WHERE export_id = $1 AND resource_type = $2`,
			e.ID, resourceType).Scan(&left, &inserted, &held)
		if err != nil {
			return fmt.Errorf("count %s: %w", resourceType, err)
		}
		before += left - inserted
		if left == held {
			// Every row is the export's: what it holds was written, or stood when it was compared, and no other export of the payer
			// can have been published since. To look for each row would be the greater part of such a publish.
			continue
		}
		// What a back-fill of a later instant brought is none: its patients may have joined since. Back-fills are not among what isBehind asks
		// for, and none of so late is pruned.
		n, err := p.remove(ctx, resourceType, staged, "ghost", p.options.History != "none", `AND NOT (`+ofKnownLaterExport("live", e.ID)+`)`)
		if err != nil {
			return fmt.Errorf("remove ghosts from %s: %w", resourceType, err)
		}
		e.Ghosts += n
	}
	if e.Ghosts > 0 {
		// What left may belong to another series, whose next incremental export would not bring it back.
		_, err := p.tx.Exec(ctx, `DELETE FROM ingest.watermark WHERE payer = $1 AND series <> $2`, e.Payer, e.Series)
		if err != nil {
			return fmt.Errorf("end the watermarks of other series: %w", err)
		}
	}
	if !e.Released && float64(e.Ghosts) > p.options.GhostMaxShare*float64(before) {
		return &HeldError{Ghosts: e.Ghosts, Rows: before, MaxShare: p.options.GhostMaxShare}
	}
	return nil
}

// isBehind reports whether the export is older than what is published: a payer may answer with a job that it kept. What is
// missing from it may be what is new since (protocol.md INC-4).
func (p *publisher) isBehind(ctx context.Context) (bool, error) {
	var behind bool
	err := p.tx.QueryRow(ctx, `
		SELECT last.at IS NOT NULL
			AND (this.transaction_at IS NULL OR least(this.transaction_at, this.manifest_at) < last.at)
		FROM ingest.export AS this, (
			SELECT max(least(transaction_at, manifest_at)) AS at FROM ingest.export
			WHERE payer = $2 AND state = 'published' AND kind <> 'backfill' AND transaction_at IS NOT NULL
		) AS last
		WHERE this.id = $1`, p.export.ID, p.export.Payer).Scan(&behind)
	if err != nil {
		return false, fmt.Errorf("compare with the last export: %w", err)
	}
	return behind, nil
}

// ofLaterExport is the SQL for whether a published row was written by an export of a later instant than the given one: what the payer
// said then stands, whatever a job that it kept says of the row. Where the payer does not tell the instant, no row is. Of an export that has
// been pruned the instant is not known any more: what was published after the given one's counts as later.
func ofLaterExport(table string, exportID int64) string {
	return fmt.Sprintf(`(%[3]s
		OR %[1]s.ingested_at > (SELECT least(transaction_at, manifest_at) FROM ingest.export WHERE id = %[2]d AND transaction_at IS NOT NULL)
			AND NOT EXISTS (SELECT FROM ingest.export AS wrote WHERE wrote.id = %[1]s.export_id))`, table, exportID, ofKnownLaterExport(table, exportID))
}

// ofKnownLaterExport is ofLaterExport without what has been pruned.
func ofKnownLaterExport(table string, exportID int64) string {
	return fmt.Sprintf(`%[1]s.export_id IN (
		SELECT later.id FROM ingest.export AS later JOIN ingest.export AS this ON this.payer = later.payer
		WHERE this.id = %[2]d AND this.transaction_at IS NOT NULL AND later.transaction_at IS NOT NULL AND later.state = 'published'
			AND least(later.transaction_at, later.manifest_at) > least(this.transaction_at, this.manifest_at))`, table, exportID)
}

// isProven reports whether something proves of every file that it was whole. What a file lacks that may have been cut off is no
// ghost (protocol.md FILE-6, INC-4).
func (p *publisher) isProven(ctx context.Context) (bool, error) {
	var proven bool
	err := p.tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM ingest.export_file WHERE export_id = $1 AND kind = 'output' AND unproven)`,
		p.export.ID).Scan(&proven)
	if err != nil {
		return false, fmt.Errorf("look for files that may have been cut off: %w", err)
	}
	return proven, nil
}

// remove deletes the payer's rows of a type that the export does not hold and that the condition names, and keeps their
// last versions in the history.
func (p *publisher) remove(ctx context.Context, resourceType string, staged []string, reason string, history bool,
	condition string,
) (int64, error) {
	e := &p.export
	table, err := tableName(resourceType)
	if err != nil {
		return 0, err
	}
	exists, err := p.store.hasPartition(ctx, p.tx, table, e.Payer)
	if err != nil || !exists {
		return 0, err
	}
	if slices.Contains(staged, resourceType) {
		condition += ` AND NOT EXISTS (
			SELECT FROM (SELECT unnest(ids) AS id FROM ` + quote(stageSchema, seenName(e.ID, table)) + `) AS seen WHERE seen.id = live.id)`
	}
	deletion := fmt.Sprintf(`DELETE FROM %s AS live WHERE live.payer = $1 AND live.export_id <> $2 %s`,
		quote(p.store.schema, partition(table, e.Payer)), condition)
	if history {
		deletion = fmt.Sprintf(`
			WITH gone AS (%s RETURNING live.*)
			INSERT INTO %s (payer, id, version_id, last_updated, patient_id, resource, digest, export_id, valid_from, valid_to,
				ended_by, reason)
			SELECT payer, id, version_id, last_updated, patient_id, resource, digest, export_id, ingested_at, now(), $2, %s
			FROM gone`, deletion, quote(p.store.history, table), literal(reason))
	}
	tag, err := p.tx.Exec(ctx, deletion, e.Payer, e.ID)
	if err != nil {
		return 0, fmt.Errorf("remove rows of %s: %w", table, err)
	}
	column := map[string]string{"deleted": "deleted", "ghost": "ghosts"}[reason]
	_, err = p.tx.Exec(ctx, `
		INSERT INTO ingest.export_type (export_id, resource_type, `+column+`) VALUES ($1, $2, $3)
		ON CONFLICT (export_id, resource_type) DO UPDATE SET `+column+` = excluded.`+column,
		e.ID, resourceType, tag.RowsAffected())
	if err != nil {
		return 0, fmt.Errorf("note the removed rows: %w", err)
	}
	return tag.RowsAffected(), nil
}

// moveWatermark stores up to when the payer's data is complete. It never moves back: a job that is older than the last one
// says nothing new (protocol.md MAN-2).
func (p *publisher) moveWatermark(ctx context.Context) error {
	if p.options.Watermark.IsZero() {
		return nil
	}
	types := p.export.Types
	if len(types) == 0 {
		types = []string{""}
	}
	for _, resourceType := range types {
		_, err := p.tx.Exec(ctx, `
			INSERT INTO ingest.watermark AS old (payer, series, resource_type, since, export_id)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (payer, series, resource_type) DO UPDATE
			SET since = excluded.since, export_id = excluded.export_id, updated_at = now()
			WHERE excluded.since > old.since`,
			p.export.Payer, p.export.Series, resourceType, p.options.Watermark, p.export.ID)
		if err != nil {
			return fmt.Errorf("move the watermark: %w", err)
		}
	}
	return nil
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

// Watermark returns up to which instant a payer's data of the given types is complete: the earliest of the types; the zero
// time where one of them has never been published in this series.
func (s *Store) Watermark(ctx context.Context, payer, series string, types []string) (time.Time, error) {
	if len(types) == 0 {
		types = []string{""}
	}
	var known int
	var since *time.Time
	err := s.pool.QueryRow(ctx, `SELECT count(*), min(since) FROM ingest.watermark
		WHERE payer = $1 AND series = $2 AND resource_type = ANY ($3)`, payer, series, types).Scan(&known, &since)
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
