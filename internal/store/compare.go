package store

import (
	"context"
	"fmt"
)

// compareWithLive takes out of staging what must not replace what is published, and counts what stands unchanged.
func (p *preparation) compareWithLive(ctx context.Context) error {
	var changed bool
	if err := p.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+p.stage+`)`).Scan(&changed); err != nil {
		return fmt.Errorf("look for staged rows: %w", err)
	}
	if changed {
		if err := p.sortOut(ctx); err != nil {
			return err
		}
	}
	lines, resources, err := p.countSeen(ctx)
	if err != nil {
		return err
	}
	p.unchanged += resources
	p.superseded += lines - resources
	return nil
}

// seenLines is the SQL for the keys of the unchanged lines, one row a line, and of resources that left staging, whose line is null.
func (p *preparation) seenLines() string {
	return `(SELECT file, unnest(ids) AS id, unnest(lines) AS line FROM ` + p.seen + `) AS line`
}

// countSeen counts the unchanged lines, and the resources among them that no staged line replaces. It also counts what is standing.
//
// That no resource repeats, which is the rule, it proves by a hash: numbers that all differ come from ids that all differ, and are
// sorted in half the time. Where two are the same, ids or only their hashes, the ids themselves are counted.
func (p *preparation) countSeen(ctx context.Context) (lines, resources int64, err error) {
	var seen, different, staged, stagedLines int64
	err = p.tx.QueryRow(ctx, `
		SELECT count(*), count(DISTINCT hashtextextended(line.id, 0)), count(line.line), count(stage.id),
			count(line.line) FILTER (WHERE stage.id IS NOT NULL)
		FROM `+p.seenLines()+` LEFT JOIN `+p.stage+` AS stage ON stage.id = line.id`).
		Scan(&seen, &different, &lines, &staged, &stagedLines)
	if err != nil {
		return 0, 0, fmt.Errorf("count the unchanged lines: %w", err)
	}
	if different == seen {
		p.standing = seen - staged
		return lines, lines - stagedLines, nil
	}
	err = p.tx.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE stage.id IS NULL AND lines > 0), count(*) FILTER (WHERE stage.id IS NULL)
		FROM (SELECT id, count(line) AS lines FROM `+p.seenLines()+` GROUP BY id) AS seen
		LEFT JOIN `+p.stage+` AS stage ON stage.id = seen.id`).Scan(&resources, &p.standing)
	if err != nil {
		return 0, 0, fmt.Errorf("count the unchanged resources: %w", err)
	}
	return lines, resources, nil
}

// sortOut leaves those rows in staging that are newer than what is published.
func (p *preparation) sortOut(ctx context.Context) error {
	if err := p.unique(ctx, `CREATE UNIQUE INDEX `+p.index+` ON `+p.stage+` (id)`); err != nil {
		return err
	}
	if _, err := p.exec(ctx, "gather statistics", `ANALYZE `+p.stage); err != nil {
		return err
	}
	if err := p.dropIncomplete(ctx); err != nil {
		return err
	}

	// An older version never replaces a newer one: exports may be late, or repeat what an earlier one brought. Where lastUpdated does
	// not tell the two apart, the instants of their exports do.
	n, err := p.leave(ctx, "drop older versions than the published", `live.last_updated > stage.last_updated
		OR (live.last_updated < stage.last_updated) IS NOT TRUE AND live.digest <> stage.digest AND `+ofLaterExport("live", p.exportID))
	if err != nil {
		return err
	}
	p.superseded += n

	// A line that repeats the published version may stand behind a staged line of the same resource, and then it wins: unless it is
	// incomplete, and the staged one is not (protocol.md ND-8).
	n, err = p.exec(ctx, "drop lines that an unchanged line supersedes", `
		WITH seen AS MATERIALIZED (
			SELECT line.id, line.file, line.line FROM `+p.seenLines()+` JOIN `+p.stage+` AS stage ON stage.id = line.id)
		DELETE FROM `+p.stage+` AS stage USING seen, `+p.live+` AS live
		WHERE seen.id = stage.id AND live.payer = $1 AND live.id = stage.id
			AND (coalesce(live.last_updated, '-infinity'), seen.file, seen.line)
			  > (coalesce(stage.last_updated, '-infinity'), stage.file, stage.line)
			AND NOT (`+isSubsetted("live")+` AND NOT `+isSubsetted("stage")+`)`, p.payer)
	if err != nil {
		return err
	}
	p.superseded += n

	n, err = p.leave(ctx, "drop rows that stand unchanged", `live.digest = stage.digest`)
	p.unchanged += n
	return err
}

// leave takes rows out of staging of which something is published that meets the condition, and returns their number. They still stand
// in the export: they are noted among the seen, so that they are not taken for ghosts. The note is cut into rows because Postgres bounds
// what one can hold.
func (p *preparation) leave(ctx context.Context, what, condition string) (int64, error) {
	var n int64
	err := p.tx.QueryRow(ctx, `
		WITH gone AS (
			DELETE FROM `+p.stage+` AS stage USING `+p.live+` AS live
			WHERE live.payer = $1 AND live.id = stage.id AND (`+condition+`)
			RETURNING stage.id
		), noted AS (
			INSERT INTO `+p.seen+` (file, ids, lines)
			SELECT -1, array_agg(id), '{}' FROM (SELECT id, row_number() OVER () / 10000 AS part FROM gone) AS parts GROUP BY part
		)
		SELECT count(*) FROM gone`, p.payer).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return n, nil
}

// isSubsetted is the SQL for whether a resource is tagged as incomplete.
func isSubsetted(table string) string {
	return `coalesce(` + table + `.resource -> 'meta' -> 'tag' @> '[{"code": "SUBSETTED"}]', false)`
}

// completeFirst orders complete versions of a resource before incomplete ones, where there are any.
func (p *preparation) completeFirst() string {
	if !p.subsetted {
		return ""
	}
	return isSubsetted("staged") + ", "
}

// dropIncomplete takes incomplete resources out of staging whose complete versions are published (protocol.md ND-8).
func (p *preparation) dropIncomplete(ctx context.Context) error {
	if !p.subsetted {
		return nil
	}
	n, err := p.leave(ctx, "drop incomplete resources that stand complete", isSubsetted("stage")+` AND NOT `+isSubsetted("live"))
	p.superseded += n
	return err
}
