package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// Index is an index that the configuration asks for, beside those that every resource table has.
type Index struct {
	// Name tells it from the others; it becomes a part of the name in Postgres.
	Name string
	// Types are the resource types whose tables get it; all if empty.
	Types []string
	// Columns is the SQL between the parentheses of CREATE INDEX: columns or expressions.
	Columns string
	// Using is the access method; btree if empty.
	Using string
	// Where is the SQL of a partial index's condition; empty for a whole one.
	Where string
}

// definition is what of an index goes into CREATE INDEX behind the table's name.
func (i Index) definition() string {
	sql := fmt.Sprintf(`USING %s (%s)`, quote(cmp.Or(i.Using, "btree")), i.Columns)
	if i.Where != "" {
		sql += fmt.Sprintf(` WHERE (%s)`, i.Where)
	}
	return sql
}

// mark is the comment by which an index is known as this one, with this definition.
func (i Index) mark() string {
	sum := sha256.Sum256([]byte(i.definition()))
	return i.markPrefix() + hex.EncodeToString(sum[:8])
}

func (i Index) markPrefix() string { return "ingestd index " + i.Name + " " }

// BuiltIndex is an index that BuildIndexes has built.
type BuiltIndex struct {
	Index string // its name in the configuration
	Table string // the partition, without the schema
	Took  time.Duration
}

// LockIndexes takes the lock on the building of a payer's indexes; ErrLocked where somebody holds it.
func (s *Store) LockIndexes(ctx context.Context, payer string) (*Lease, error) {
	return s.lock(ctx, lockKey("indexes/"+payer))
}

// BuildIndexes builds those of the indexes that a payer's partitions lack, one after the other, and reports each to built. Readers and
// publishes go on meanwhile (CREATE INDEX CONCURRENTLY). An index whose definition has changed is built anew before the old one is
// dropped; one that a broken build left invalid is dropped first. What the configuration no longer names stays.
//
// Of several failures all are returned, joined: one index that cannot be built does not keep the others from it.
func (s *Store) BuildIndexes(ctx context.Context, lease *Lease, payer string, indexes []Index, built func(BuiltIndex)) error {
	var failed []error
	for _, index := range indexes {
		for _, resourceType := range fhir.Types() {
			if len(index.Types) > 0 && !slices.Contains(index.Types, resourceType) {
				continue
			}
			table, err := tableName(resourceType)
			if err != nil {
				return err
			}
			exists, err := s.hasPartition(ctx, lease.Conn(), table, payer)
			if err != nil {
				return err
			}
			if !exists {
				continue
			}
			began := time.Now()
			done, err := s.buildIndex(ctx, lease.Conn(), partition(table, payer), index)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx) //nolint:wrapcheck // the caller's own word
			case err != nil:
				failed = append(failed, fmt.Errorf("index %s on %s: %w", index.Name, partition(table, payer), err))
			case done:
				built(BuiltIndex{Index: index.Name, Table: partition(table, payer), Took: time.Since(began)})
			}
		}
	}
	return errors.Join(failed...)
}

// standingIndex is an index of a partition that carries an index's mark.
type standingIndex struct {
	name, mark string
	valid      bool
}

// buildIndex makes an index on a partition, unless it stands there; it reports whether it had to.
func (s *Store) buildIndex(ctx context.Context, conn *pgx.Conn, part string, index Index) (bool, error) {
	sum := sha256.Sum256([]byte(index.definition()))
	name := shorten(part + "$" + index.Name + "_" + hex.EncodeToString(sum[:3]))
	standing, err := s.standingIndexes(ctx, conn, part, name, index)
	if err != nil {
		return false, err
	}
	stands := slices.ContainsFunc(standing, func(i standingIndex) bool { return i.valid && i.mark == index.mark() })
	if !stands {
		for _, i := range standing {
			if i.name == name { // a build that broke off left it
				if err := dropIndex(ctx, conn, s.schema, name); err != nil {
					return false, err
				}
			}
		}
		sql := fmt.Sprintf(`CREATE INDEX CONCURRENTLY %s ON %s %s`, quote(name), quote(s.schema, part), index.definition())
		if _, err := conn.Exec(ctx, sql); err != nil {
			return false, errors.Join(fmt.Errorf("build it: %w", err), dropIndex(context.WithoutCancel(ctx), conn, s.schema, name))
		}
		comment := fmt.Sprintf(`COMMENT ON INDEX %s IS %s`, quote(s.schema, name), literal(index.mark()))
		if _, err := conn.Exec(ctx, comment); err != nil {
			return false, fmt.Errorf("mark it: %w", err)
		}
	}
	for _, i := range standing {
		if i.name != name && i.mark != index.mark() && strings.HasPrefix(i.mark, index.markPrefix()) {
			if err := dropIndex(ctx, conn, s.schema, i.name); err != nil {
				return false, err
			}
		}
	}
	return !stands, nil
}

// standingIndexes lists the indexes of a partition that are, or were, an index of the configuration, and one of the given name.
func (s *Store) standingIndexes(ctx context.Context, conn *pgx.Conn, part, name string, index Index) ([]standingIndex, error) {
	rows, err := conn.Query(ctx, `
		SELECT class.relname, coalesce(obj_description(class.oid, 'pg_class'), ''), pg_index.indisvalid
		FROM pg_index JOIN pg_class AS class ON class.oid = pg_index.indexrelid
		WHERE pg_index.indrelid = $1::regclass
			AND (class.relname = $2 OR starts_with(obj_description(class.oid, 'pg_class'), $3))`,
		quote(s.schema, part), name, index.markPrefix())
	if err != nil {
		return nil, fmt.Errorf("list the indexes: %w", err)
	}
	standing, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i standingIndex, err error) {
		err = row.Scan(&i.name, &i.mark, &i.valid)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the indexes: %w", err)
	}
	return standing, nil
}

func dropIndex(ctx context.Context, conn *pgx.Conn, schema, name string) error {
	if _, err := conn.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS `+quote(schema, name)); err != nil {
		return fmt.Errorf("drop index %s: %w", name, err)
	}
	return nil
}
