package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/failpoint"
	"ingestd/internal/fhir"
)

// flush stages a chunk and moves the checkpoint, in one transaction.
func (l *loader) flush(ctx context.Context, c *chunk) error {
	began := time.Now()
	file := l.file
	for _, rows := range groupRows(c.rows) {
		if err := l.prepareType(ctx, rows[0].resourceType); err != nil {
			return err
		}
	}
	if c.deletions > 0 && !l.staged[deletedName(l.export.ID)] {
		if err := l.store.ensureDeleted(ctx, l.conn, l.export); err != nil {
			return err
		}
		l.staged[deletedName(l.export.ID)] = true
	}
	err := inCheckpointTx(ctx, l.conn, func(tx pgx.Tx) error {
		if err := l.readLate(ctx, tx, c); err != nil {
			return err
		}
		for _, rows := range groupRows(c.rows) {
			unchanged, err := l.stageRows(ctx, tx, c, rows)
			if err != nil {
				return err
			}
			file.Unchanged += unchanged
		}
		if err := l.stageRest(ctx, tx, c); err != nil {
			return err
		}
		file.Staged += int64(len(c.rows)) - (file.Unchanged - l.file.Unchanged) - refused(c)
		file.LineNumber, file.Bytes = c.lineNumber, c.bytes
		file.Lines += c.lines
		file.Deletions += int64(c.deletions)
		file.Quarantined += int64(len(c.quarantined))
		file.Outcomes += c.outcomeLines
		file.Subsetted += c.subsetted
		file.Headers += c.headers
		file.Repaired += c.repaired
		file.PrefixDigest = append([]byte(nil), c.prefixDigest...)
		file.Chunks++
		if l.options.WireBytes != nil {
			file.WireBytes = l.baseWire + l.options.WireBytes()
		}
		err := l.moveCheckpoint(ctx, tx, file)
		failpoint.Here(failpoint.ChunkCommit)
		return err
	})
	if err != nil {
		return err
	}
	failpoint.Here(failpoint.ChunkCommitted)
	if l.options.OnChunk != nil {
		l.options.OnChunk(Chunk{
			Lines: c.lines, Bytes: file.Bytes - l.file.Bytes, Staged: file.Staged - l.file.Staged,
			Unchanged: file.Unchanged - l.file.Unchanged, Quarantined: int64(len(c.quarantined)), Took: time.Since(began),
		})
	}
	l.file = file
	return nil
}

// refused counts the rows of a chunk that Postgres refused: they stand among the rows and in the quarantine.
func refused(c *chunk) int64 {
	var n int64
	for i := range c.quarantined {
		if c.quarantined[i].reason == fhir.ReasonRefused {
			n++
		}
	}
	return n
}

// moveCheckpoint stores where the file stands now, provided that it stood where this load began the chunk and that the
// export is still loading, and has not started again meanwhile. Anything else means that somebody else is at work, and this
// chunk must not be committed.
func (l *loader) moveCheckpoint(ctx context.Context, tx pgx.Tx, f File) error {
	return change(ctx, tx, `
		UPDATE ingest.export_file
		SET line_number = $4, lines = $5, bytes = $6, wire_bytes = $7, prefix_digest = $8, staged = $9, unchanged = $10,
			deletions = $11, quarantined = $12, chunks = $13, outcomes = $14, subsetted = $16, headers = $17, repaired = $18, job_due_at = now()
		WHERE export_id = $1 AND ordinal = $2 AND line_number = $3 AND chunks = $13 - 1 AND state = 'queued'
			AND EXISTS (SELECT FROM ingest.export WHERE id = $1 AND state IN ('polling', 'loading') AND restarts = $15)`,
		f.ExportID, f.Ordinal, l.file.LineNumber, f.LineNumber, f.Lines, f.Bytes, f.WireBytes, f.PrefixDigest, f.Staged,
		f.Unchanged, f.Deletions, f.Quarantined, f.Chunks, f.Outcomes, l.export.Restarts, f.Subsetted, f.Headers, f.Repaired)
}

// groupRows splits rows by type, in place where they are all of one, which is the rule.
func groupRows(rows []row) [][]row {
	if len(rows) == 0 {
		return nil
	}
	same := true
	for i := range rows {
		if rows[i].resourceType != rows[0].resourceType {
			same = false
			break
		}
	}
	if same {
		return [][]row{rows}
	}
	index := make(map[string]int)
	var groups [][]row
	for _, r := range rows {
		i, ok := index[r.resourceType]
		if !ok {
			i = len(groups)
			index[r.resourceType] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// prepareType makes the staging tables of a type and finds out whether there is anything to compare with.
func (l *loader) prepareType(ctx context.Context, resourceType string) error {
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	if l.staged[table] {
		return nil
	}
	if err := l.store.ensureStage(ctx, l.conn, l.export, table); err != nil {
		return err
	}
	failpoint.Here(failpoint.StageCommitted)
	exists, err := l.store.hasPartition(ctx, l.conn, table, l.export.Payer)
	if err != nil {
		return err
	}
	l.staged[table], l.partitions[table] = true, exists
	return nil
}

// readLate looks up the rows that are not scanned yet, and scans those that do not stand published. They are all of the file's type, and
// so is what they become.
func (l *loader) readLate(ctx context.Context, tx pgx.Tx, c *chunk) error {
	var unread []*row
	for i := range c.rows {
		if c.rows[i].unread {
			unread = append(unread, &c.rows[i])
		}
	}
	if len(unread) == 0 {
		return nil
	}
	table, err := tableName(l.file.ResourceType)
	if err != nil {
		return err
	}
	if _, err := l.lookUp(ctx, tx, table, unread); err != nil {
		return err
	}
	l.late.scanUnread(c)
	return nil
}

// stageRows copies the rows of one type that differ from what is published, and returns the number of those that do not.
func (l *loader) stageRows(ctx context.Context, tx pgx.Tx, c *chunk, rows []row) (int64, error) {
	table, err := tableName(rows[0].resourceType)
	if err != nil {
		return 0, err
	}
	var unchanged int64
	var pending []*row
	for i := range rows {
		switch {
		case rows[i].unchanged:
			unchanged++
		case !rows[i].looked && l.partitions[table]:
			pending = append(pending, &rows[i])
		}
	}
	found, err := l.lookUp(ctx, tx, table, pending)
	if err != nil {
		return 0, err
	}
	if unchanged += found; unchanged == int64(len(rows)) {
		return unchanged, nil
	}
	err = copyRows(ctx, tx, stageName(l.export.ID, table), int32(l.file.Ordinal), rows, l.copyBuffer,
		func(r *row, sqlState string) {
			raw := r.resource
			if r.sent != nil {
				raw = r.sent
			}
			c.quarantined = append(c.quarantined, quarantined{
				line: r.line, offset: r.offset, reason: fhir.ReasonRefused, detail: "SQLSTATE " + sqlState,
				resourceType: r.resourceType, resourceID: clip(string(r.id), fhir.MaxIDBytes),
				raw:      append([]byte(nil), raw[:min(len(raw), maxQuarantinedBytes)]...),
				rawBytes: int64(len(raw)),
			})
		})
	return unchanged, err
}

// stageRest stages what a chunk holds beside resources.
func (l *loader) stageRest(ctx context.Context, tx pgx.Tx, c *chunk) error {
	if err := l.stageDeletions(ctx, tx, c); err != nil {
		return err
	}
	if len(c.outcomes) > 0 {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"ingest", "outcome"},
			[]string{"export_id", "file", "line", "severity", "code", "diagnostics"},
			pgx.CopyFromSlice(len(c.outcomes), func(i int) ([]any, error) {
				o := c.outcomes[i]
				return []any{
					l.export.ID, l.file.Ordinal, o.line, clip(o.issue.Severity, 64), clip(o.issue.Code, 64), clip(wordsOf(o.issue), 10_000),
				}, nil
			}))
		if err != nil {
			return fmt.Errorf("store outcomes: %w", err)
		}
	}
	if len(c.quarantined) > 0 {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"ingest", "quarantine"},
			[]string{
				"export_id", "payer", "file", "line", "byte_offset", "reason", "detail", "resource_type", "resource_id", "raw",
				"raw_bytes",
			},
			pgx.CopyFromSlice(len(c.quarantined), func(i int) ([]any, error) {
				q := &c.quarantined[i]
				return []any{
					l.export.ID, l.export.Payer, l.file.Ordinal, q.line, q.offset, string(q.reason), clip(q.detail, 1000),
					q.resourceType, q.resourceID, q.raw, q.rawBytes,
				}, nil
			}))
		if err != nil {
			return fmt.Errorf("quarantine lines: %w", err)
		}
	}
	return nil
}
