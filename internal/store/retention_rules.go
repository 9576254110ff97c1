package store

import "fmt"

// published is the SQL for whether an export of the payer of e, other than a back-fill, was published.
const published = `o.payer = e.payer AND o.state = 'published' AND o.kind <> 'backfill'`

// mayGo is the SQL for whether an export e that ended before $3 may be pruned. However old, these stay:
//
//   - what is not over, or not cleaned up at the payer;
//   - the newest exports of each payer: its history on the status page;
//   - its newest published one: when data last came, and how much;
//   - the freshest ones, by transactionTime: how old the data are, and what isBehind compares with. Of equals the newest stays, so that a
//     payer that always tells the same instant does not keep everything;
//   - the newest full one: when all of the data were last compared, and ghosts removed;
//   - those that watermarks are from;
//   - those that an incident which is not over tells of;
//   - the first one of a payer of which nothing has been published: since when it has been waited for.
//
// Each rule names the greatest of an order, so that exports which keep one another from staying cannot all go at once.
var mayGo = fmt.Sprintf(`(%s
	AND e.id < (SELECT id FROM ingest.export WHERE payer = e.payer ORDER BY id DESC OFFSET %d LIMIT 1)
	AND (e.state <> 'published' OR e.kind = 'backfill' OR (
		EXISTS (SELECT FROM ingest.export AS o WHERE %s AND o.id > e.id)
		AND (e.transaction_at IS NULL OR (
			EXISTS (SELECT FROM ingest.export AS o WHERE %[3]s
				AND o.transaction_at >= e.transaction_at AND (o.transaction_at, o.id) > (e.transaction_at, e.id))
			AND EXISTS (SELECT FROM ingest.export AS o WHERE %[3]s AND o.transaction_at IS NOT NULL
				AND (least(o.transaction_at, o.manifest_at), o.id) > (least(e.transaction_at, e.manifest_at), e.id))))
		AND (e.kind <> 'full' OR EXISTS (SELECT FROM ingest.export AS o WHERE %[3]s
			AND o.kind = 'full' AND o.id > e.id AND (o.trigger <> 'new_types' OR e.trigger = 'new_types')))))
	AND (EXISTS (SELECT FROM ingest.export AS o WHERE %[3]s)
		OR EXISTS (SELECT FROM ingest.export AS o WHERE o.payer = e.payer AND o.id < e.id))
	AND NOT EXISTS (SELECT FROM ingest.watermark AS w WHERE w.payer = e.payer AND w.export_id = e.id)
	AND NOT EXISTS (SELECT FROM ingest.incident AS i WHERE i.payer = e.payer AND i.export_id = e.id AND i.closed_at IS NULL))`,
	isOver, KeptExports-1, published)
