package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ingestd/internal/fhir"
	"ingestd/internal/store"
	"ingestd/internal/verify"

	"github.com/jackc/pgx/v5"
)

// DifferenceError says that the tables, or the ledgers, do not hold what the payers hold.
type DifferenceError struct{ Differences []string }

func (e *DifferenceError) Error() string {
	const most = 20
	lines := e.Differences
	if len(lines) > most {
		lines = append(slices.Clone(lines[:most]), fmt.Sprintf("and %d more", len(lines)-most))
	}
	return "the database differs from what the payers hold:\n  " + strings.Join(lines, "\n  ")
}

// holdings are the digests of all that a payer held at one export: type → id → digest of the line. They tell what changed
// between two exports, and stay small where the data are not.
type holdings map[string]map[string][sha256.Size]byte

// held returns the digests of what the payer held in a round, from 0, and remembers them.
func (p *payer) held(ctx context.Context, round int) (holdings, error) {
	for next := len(p.rounds); next <= round; next++ {
		all := make(holdings)
		for _, resourceType := range types {
			all[resourceType] = make(map[string][sha256.Size]byte)
		}
		err := p.sim.TruthAt(ctx, next, types, func(resourceType, id string, line []byte) bool {
			all[resourceType][id] = sha256.Sum256(line)
			return ctx.Err() == nil
		})
		if err = cmpErr(ctx, err); err != nil {
			return nil, fmt.Errorf("ask %s what it holds: %w", p.name, err)
		}
		p.rounds = append(p.rounds, all)
	}
	return p.rounds[round], nil
}

// changes counts, by type, what came, changed and went from one round to another.
func changes(old, recent holdings) map[string]verify.Change {
	counts := make(map[string]verify.Change)
	for _, resourceType := range types {
		var c verify.Change
		for id, digest := range recent[resourceType] {
			switch before, ok := old[resourceType][id]; {
			case !ok:
				c.Inserted++
			case before != digest:
				c.Updated++
			}
		}
		for id := range old[resourceType] {
			if _, ok := recent[resourceType][id]; !ok {
				c.Deleted++
			}
		}
		counts[resourceType] = c
	}
	return counts
}

// check compares every row of a payer with what the payer held at its last published export: each resource of the payer
// with its row, and each row's id with the payer's resources. It returns how many rows are right, by type; a
// *DifferenceError names the others.
func check(ctx context.Context, s *store.Store, p *payer) (right map[string]int64, err error) {
	tx, err := s.Pool().BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("compare with %s: %w", p.name, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has changed nothing
	var published int
	err = tx.QueryRow(ctx, `SELECT count(*) FROM ingest.export WHERE payer = $1 AND state = 'published'`, p.name).Scan(&published)
	if err != nil {
		return nil, fmt.Errorf("count the exports of %s: %w", p.name, err)
	}
	if published == 0 {
		return nil, fmt.Errorf("compare with %s: nothing has been published", p.name)
	}
	round := published - 1 // each export of the demo is one kick-off, and each kick-off but the first starts a round
	c := comparison{tx: tx, schema: s.Schema(), payer: p, right: make(map[string]int64)}
	if err := c.resources(ctx, round); err != nil {
		return nil, err
	}
	if err := c.ids(ctx, round); err != nil {
		return nil, err
	}
	if len(c.wrong) > 0 {
		return nil, &DifferenceError{c.wrong}
	}
	return c.right, nil
}

// comparison is one comparison of a payer with its rows, in one snapshot.
type comparison struct {
	tx     pgx.Tx
	schema string
	payer  *payer
	right  map[string]int64
	wrong  []string
	batch  batch
}

// batch is some resources that the payer holds, of one type.
type batch struct {
	resourceType string
	lines        map[string][]byte
}

// batchSize is how many resources are compared by one query; it bounds the memory, not the data.
const batchSize = 500

func (c *comparison) note(format string, args ...any) {
	c.wrong = append(c.wrong, c.payer.name+": "+fmt.Sprintf(format, args...))
}

// resources streams what the payer held and compares each resource with its row.
func (c *comparison) resources(ctx context.Context, round int) error {
	var failed error
	err := c.payer.sim.TruthAt(ctx, round, types, func(resourceType, id string, line []byte) bool {
		if resourceType != c.batch.resourceType || len(c.batch.lines) == batchSize {
			if failed = c.flush(ctx); failed != nil {
				return false
			}
			c.batch = batch{resourceType: resourceType, lines: make(map[string][]byte, batchSize)}
		}
		c.batch.lines[id] = bytes.Clone(line)
		return ctx.Err() == nil
	})
	if err = errors.Join(cmpErr(ctx, err), failed); err != nil {
		return fmt.Errorf("compare with %s: %w", c.payer.name, err)
	}
	return c.flush(ctx)
}

// flush compares the batch with its rows.
func (c *comparison) flush(ctx context.Context) error {
	if len(c.batch.lines) == 0 {
		return nil
	}
	resourceType, lines := c.batch.resourceType, c.batch.lines
	ids := make([]string, 0, len(lines))
	for id := range lines {
		ids = append(ids, id)
	}
	rows, err := c.tx.Query(ctx, `SELECT id, resource::text FROM `+c.table(resourceType)+` WHERE payer = $1 AND id = ANY($2)`,
		c.payer.name, ids)
	if err != nil {
		return fmt.Errorf("read the rows of %s: %w", resourceType, err)
	}
	var id, resource string
	_, err = pgx.ForEachRow(rows, []any{&id, &resource}, func() error {
		if verify.SameJSON(lines[id], []byte(resource)) {
			c.right[resourceType]++
		} else {
			c.note("%s/%s is not what the payer holds", resourceType, id)
		}
		delete(lines, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the rows of %s: %w", resourceType, err)
	}
	for id := range lines {
		c.note("%s/%s has no row", resourceType, id)
	}
	return nil
}

// ids streams the ids of all rows of the payer, of any type, and wants each to be held by the payer.
func (c *comparison) ids(ctx context.Context, round int) error {
	held, err := c.payer.held(ctx, round)
	if err != nil {
		return err
	}
	rows, err := c.tx.Query(ctx, `SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'p' ORDER BY 1`, c.schema)
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	typeOf := make(map[string]string)
	for _, resourceType := range types {
		table, _ := fhir.TableName(resourceType)
		typeOf[table] = resourceType
	}
	for _, table := range tables {
		rows, err := c.tx.Query(ctx, `SELECT id FROM `+pgx.Identifier{c.schema, table}.Sanitize()+` WHERE payer = $1`, c.payer.name)
		if err != nil {
			return fmt.Errorf("read the ids of %s: %w", table, err)
		}
		var id string
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			if _, ok := held[typeOf[table]][id]; !ok {
				c.note("the row %s of table %s is of nothing that the payer holds", id, table)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the ids of %s: %w", table, err)
		}
	}
	return nil
}

func (c *comparison) table(resourceType string) string {
	table, _ := fhir.TableName(resourceType) // the demo's types are known
	return pgx.Identifier{c.schema, table}.Sanitize()
}
