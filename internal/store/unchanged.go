package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// lookUp marks those rows of one type that stand published with the same id and digest, notes them as seen, and returns their
// number. A full export must know what it held, and an earlier line of the same resource must not win over an unchanged one.
//
// One statement does all of it, and answers with what is left: of a payer that sends all of its data every night that is little. The keys
// that were seen are kept as one row a chunk, which costs a tenth of a row each. Each look-up is a subquery of its own, so that
// Postgres cannot take to reading the whole table for a thousand of its rows.
func (l *loader) lookUp(ctx context.Context, tx pgx.Tx, table string, rows []*row) (int64, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	ids, digests, lines := make([]string, len(rows)), make([][]byte, len(rows)), make([]int64, len(rows))
	for i, r := range rows {
		ids[i], digests[i], lines[i] = string(r.id), r.digest[:], r.line
		r.looked, r.unchanged = true, true
	}
	found, err := tx.Query(ctx, fmt.Sprintf(`
		WITH looked AS MATERIALIZED (
			SELECT k.ordinal, k.id, k.line,
				(SELECT live.digest = k.digest FROM %s AS live WHERE live.payer = $1 AND live.id = k.id) IS TRUE AS unchanged
			FROM unnest($2::text[], $3::bytea[], $4::bigint[]) WITH ORDINALITY AS k (id, digest, line, ordinal)
		), noted AS (
			INSERT INTO %s (file, ids, lines)
			SELECT $5, array_agg(id), array_agg(line) FROM looked WHERE unchanged HAVING count(*) > 0
		)
		SELECT ordinal FROM looked WHERE NOT unchanged`,
		quote(l.store.schema, partition(table, l.export.Payer)), quote(stageSchema, seenName(l.export.ID, table))),
		l.export.Payer, ids, digests, lines, l.file.Ordinal)
	if err != nil {
		return 0, fmt.Errorf("look up what is published of %s: %w", table, err)
	}
	unchanged, ordinal := int64(len(rows)), int64(0)
	_, err = pgx.ForEachRow(found, []any{&ordinal}, func() error {
		rows[ordinal-1].unchanged = false
		unchanged--
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look up what is published of %s: %w", table, err)
	}
	return unchanged, nil
}
