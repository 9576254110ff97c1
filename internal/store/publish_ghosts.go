package store

import (
	"context"
	"fmt"
	"slices"

	"ingestd/internal/fhir"
)

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
		types = slices.DeleteFunc(fhir.Types(), func(resourceType string) bool { return !e.grants(resourceType) })
		if p.options.Covers != nil { // what has been withdrawn since it was asked for
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
