package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// RetryOptions say how quarantined lines are loaded again.
type RetryOptions struct {
	// RepairText mends text that jsonb cannot hold: load.repair_text.
	RepairText bool
	// History is none, deletes or all: load.history.
	History string
	// Newcomers says what becomes of Patients that were not here before, as for the export itself.
	Newcomers Newcomers
	// By is who asks for it.
	By Actor
}

// Retried is what became of the quarantined lines of an export.
type Retried struct {
	Lines      int64 `json:"lines"`      // that were tried
	Inserted   int64 `json:"inserted"`   // resources that were not published
	Updated    int64 `json:"updated"`    // resources that replaced an older version
	Superseded int64 `json:"superseded"` // lines whose resource stands published in the same or a newer version
	Refused    int64 `json:"refused"`    // lines that cannot be loaded now either
	Incomplete int64 `json:"incomplete"` // lines of which only the beginning was kept: not tried
}

var (
	// ErrNotPublished says that the export is not published: its lines are loaded with it, or not at all.
	ErrNotPublished = errors.New("the export is not published")
	// ErrOvertaken says that a later export has spoken of all the payer's data, or has deleted some: what an older line holds may be gone.
	ErrOvertaken = errors.New("a later export of the payer was a full one, or held deletions: " +
		"what was quarantined before may be gone by now; a new full export brings what is still there")
)

// retryBytes bounds the memory of a retry: lines beyond it go into the next transaction.
const retryBytes = 16 << 20

// RetryQuarantine loads the quarantined lines of a published export again and publishes those that can be loaded by now: with text
// mended, or by a version of this program that knows more. Each line is marked with what became of it; those that cannot be loaded stay. The
// export's own ledger is left as it was when it was published. Attachments are not fetched for these resources.
//
// Errors: ErrNoExport, ErrNotPublished, ErrOvertaken, ErrExportRunning while an export of the payer is at work.
func (s *Store) RetryQuarantine(ctx context.Context, exportID int64, o RetryOptions) (Retried, error) {
	var all Retried
	e, err := s.Export(ctx, exportID)
	if err != nil {
		return all, err
	}
	if e.State != StatePublished {
		return all, ErrNotPublished
	}
	for after := (place{file: -1}); ; {
		r := retry{store: s, export: e, options: o}
		err := inPublishTx(ctx, s.pool, func(tx pgx.Tx) error {
			r.tx = tx
			if err := r.batch(ctx, &after); err != nil || r.done.Lines == 0 {
				return err
			}
			return s.AuditTx(ctx, tx, o.By, ActionRetryQuarantine, ExportObject(exportID), map[string]any{
				"payer": e.Payer, "lines": r.done.Lines, "inserted": r.done.Inserted, "updated": r.done.Updated,
				"superseded": r.done.Superseded, "refused": r.done.Refused,
			})
		})
		if err != nil {
			return all, err
		}
		all.add(r.done)
		if r.ended {
			return all, nil
		}
	}
}

func (r *Retried) add(o Retried) {
	r.Lines += o.Lines
	r.Inserted += o.Inserted
	r.Updated += o.Updated
	r.Superseded += o.Superseded
	r.Refused += o.Refused
	r.Incomplete += o.Incomplete
}

// retry is one transaction of RetryQuarantine.
type retry struct {
	store   *Store
	tx      pgx.Tx
	export  Export
	options RetryOptions
	done    Retried
	ended   bool // there are no further lines
}

// place is where a quarantined line stands among those of its export.
type place struct {
	file     int
	line, id int64
}

// batch tries the next lines, up to retryBytes of them.
func (r *retry) batch(ctx context.Context, after *place) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	rows, err := r.tx.Query(ctx, `
		SELECT next.id, next.file, next.line, next.raw, file.kind, file.resource_type FROM (
			SELECT id, file, line, raw, sum(raw_bytes) OVER (ORDER BY file, line, id) - raw_bytes AS before
			FROM ingest.quarantine
			WHERE export_id = $1 AND (file, line, id) > ($2, $3, $4) AND result = '' AND raw_bytes = length(raw)
		) AS next JOIN ingest.export_file AS file ON file.export_id = $1 AND file.ordinal = next.file
		WHERE before < $5 ORDER BY next.file, next.line, next.id`, r.export.ID, after.file, after.line, after.id, retryBytes)
	if err != nil {
		return fmt.Errorf("read the quarantine: %w", err)
	}
	type quarantinedRow struct {
		ID           int64
		File         int
		Line         int64
		Raw          []byte
		Kind         FileKind
		ResourceType string
	}
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[quarantinedRow])
	if err != nil {
		return fmt.Errorf("read the quarantine: %w", err)
	}
	if len(lines) == 0 {
		r.ended = true
		err := r.tx.QueryRow(ctx, `SELECT count(*) FROM ingest.quarantine WHERE export_id = $1 AND raw_bytes > length(raw)`, r.export.ID).
			Scan(&r.done.Incomplete)
		if err != nil {
			return fmt.Errorf("count the lines of which a part was kept: %w", err)
		}
		return nil
	}
	last := &lines[len(lines)-1]
	*after = place{last.File, last.Line, last.ID}
	r.done.Lines = int64(len(lines))

	c, k := &chunk{}, newChunker(File{Kind: FileOutput}, r.export.OrganizedBy != "", r.options.RepairText)
	for i, line := range lines {
		if line.Kind != FileOutput {
			continue // a Bundle of deletions, or an outcome, is no resource to be kept
		}
		k.resourceType = line.ResourceType
		k.add(c, Line{Bytes: line.Raw, Number: int64(i)})
	}
	staged := make([]int64, 0, len(c.rows))
	for _, rows := range groupRows(c.rows) {
		taken, err := r.publish(ctx, rows)
		if err != nil {
			return fmt.Errorf("publish %s: %w", rows[0].resourceType, err)
		}
		for _, i := range taken {
			staged = append(staged, lines[i].ID)
		}
	}
	tag, err := r.tx.Exec(ctx, `UPDATE ingest.quarantine SET result = 'loaded', retried_at = now() WHERE id = ANY ($1)`, staged)
	if err != nil {
		return fmt.Errorf("note what became of the lines: %w", err)
	}
	r.done.Superseded = tag.RowsAffected() - r.done.Inserted - r.done.Updated
	r.done.Refused = r.done.Lines - tag.RowsAffected()
	_, err = r.tx.Exec(ctx, `SELECT pg_notify($1, $2)`, PublishedChannel, strconv.FormatInt(r.export.ID, 10))
	if err != nil {
		return fmt.Errorf("announce the publish: %w", err)
	}
	return nil
}

// check refuses where a line may say what is no longer so. The lock keeps an export of the payer from beginning meanwhile.
func (r *retry) check(ctx context.Context) error {
	// Others queue up behind whoever waits for a lock.
	if _, err := r.tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d`, defaultLockTimeout.Milliseconds())); err != nil {
		return fmt.Errorf("bound the wait for locks: %w", err)
	}
	if _, err := r.tx.Exec(ctx, `LOCK TABLE ingest.export IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return fmt.Errorf("keep exports from beginning: %w", err)
	}
	var running, overtaken bool
	err := r.tx.QueryRow(ctx, `
		SELECT coalesce(bool_or(state IN ('starting', 'polling', 'loading', 'publishing', 'held')), false),
			coalesce(bool_or(id > $2 AND state = 'published' AND (kind = 'full' OR EXISTS (
				SELECT FROM ingest.export_file WHERE export_id = export.id AND deletions > 0))), false)
		FROM ingest.export WHERE payer = $1`, r.export.Payer, r.export.ID).Scan(&running, &overtaken)
	switch {
	case err != nil:
		return fmt.Errorf("look for other exports of %s: %w", r.export.Payer, err)
	case running:
		return ErrExportRunning
	case overtaken:
		return ErrOvertaken
	}
	return nil
}

// publish merges rows of one type as an export would, and returns the numbers of the rows that Postgres took.
func (r *retry) publish(ctx context.Context, rows []row) ([]int64, error) {
	resourceType := rows[0].resourceType
	table, err := tableName(resourceType)
	if err != nil {
		return nil, err
	}
	if err := r.store.ensureTable(ctx, r.tx, resourceType); err != nil {
		return nil, err
	}
	payer := r.export.Payer
	stage, seen := stageName(r.export.ID, table), seenName(r.export.ID, table)
	if err := r.store.ensurePartition(ctx, r.tx, table, payer); err != nil {
		return nil, err
	}
	// What the export itself left there is published.
	_, err = r.tx.Exec(ctx, `DROP TABLE IF EXISTS `+quote(stageSchema, stage)+`, `+quote(stageSchema, seen))
	if err != nil {
		return nil, fmt.Errorf("clear the staging tables: %w", err)
	}
	if err := r.store.makeStage(ctx, r.tx, stage, seen); err != nil {
		return nil, err
	}
	refused := make(map[int64]bool)
	if err := copyRows(ctx, r.tx, stage, 0, rows, nil, func(row *row, _ string) { refused[row.line] = true }); err != nil {
		return nil, err
	}
	p := preparation{
		tx: r.tx, payer: payer, exportID: r.export.ID, stage: quote(stageSchema, stage), seen: quote(stageSchema, seen),
		live: quote(r.store.schema, partition(table, payer)), index: quote(shorten(stage + "_id")), subsetted: true,
	}
	if err := p.compareWithLive(ctx); err != nil {
		return nil, err
	}
	// What a later export brought is newer, whatever it says of its own age. What the export itself brought of the same resource, but
	// for what an earlier batch did, may have stood behind the line, so that only lastUpdated makes the line newer.
	_, err = p.exec(ctx, "drop what is not newer", `DELETE FROM `+p.stage+` AS stage USING `+p.live+` AS live
		WHERE live.payer = $1 AND live.id = stage.id AND (live.export_id > $2
			OR live.export_id = $2 AND live.ingested_at <= $3 AND (stage.last_updated > live.last_updated) IS NOT TRUE)`,
		payer, r.export.ID, r.export.FinishedAt)
	if err != nil {
		return nil, err
	}
	merge := publisher{
		store: r.store, tx: r.tx, export: r.export, options: PublishOptions{History: r.options.History, Newcomers: r.options.Newcomers},
	}
	if err := merge.noteNewcomers(ctx, resourceType, table, true); err != nil {
		return nil, err
	}
	inserted, updated, err := merge.merge(ctx, table)
	if err != nil {
		return nil, err
	}
	r.done.Inserted += inserted
	r.done.Updated += updated
	if _, err := p.exec(ctx, "drop the staging tables", `DROP TABLE IF EXISTS `+p.stage+`, `+p.seen); err != nil {
		return nil, err
	}
	var taken []int64
	for i := range rows {
		if !refused[rows[i].line] {
			taken = append(taken, rows[i].line)
		}
	}
	return taken, nil
}
