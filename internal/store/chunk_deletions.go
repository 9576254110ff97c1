package store

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// addDeletions puts a Bundle of deletions into the chunk. It is kept as a line, and its entries are taken out of it one by one
// when they are staged: a Bundle of the largest line has more than a million.
func (k *chunker) addDeletions(c *chunk, line Line) {
	var deletions, bad int
	err := fhir.EachDeleted(line.Bytes,
		func(fhir.Reference) error { deletions++; return nil },
		func(int, string) { bad++ })
	if err != nil {
		c.quarantine(line, err, "Bundle", "")
		return
	}
	if deletions > 0 {
		start := len(c.arena)
		c.arena = append(c.arena, line.Bytes...)
		c.deleted = append(c.deleted, c.arena[start:len(c.arena):len(c.arena)])
		c.deletions += deletions
	}
	if bad > 0 {
		c.quarantine(line, &fhir.LineError{
			Reason: fhir.ReasonMalformedEntry,
			Want:   "entries with request.method DELETE and request.url Type/id (" + strconv.Itoa(bad) + " were not)",
		}, "Bundle", "")
	}
}

// eachDeletion ranges over the entries of the chunk's Bundles that delete.
func (c *chunk) eachDeletion() iter.Seq[fhir.Reference] {
	return func(yield func(fhir.Reference) bool) {
		for _, line := range c.deleted {
			more := true
			_ = fhir.EachDeleted(line, func(ref fhir.Reference) error { // it was read without an error when it was added
				if more = yield(ref); !more {
					return context.Canceled
				}
				return nil
			}, func(int, string) {})
			if !more {
				return
			}
		}
	}
}

// stageDeletions stages the entries of a chunk's Bundles.
func (l *loader) stageDeletions(ctx context.Context, tx pgx.Tx, c *chunk) error {
	if c.deletions == 0 {
		return nil
	}
	next, stop := iter.Pull(c.eachDeletion())
	defer stop()
	staged, err := tx.CopyFrom(ctx, pgx.Identifier{stageSchema, deletedName(l.export.ID)}, []string{"resource_type", "id", "file"},
		pgx.CopyFromFunc(func() ([]any, error) {
			ref, ok := next()
			if !ok {
				return nil, nil
			}
			return []any{ref.Type, cleanText(ref.ID), l.file.Ordinal}, nil
		}))
	if err != nil {
		return fmt.Errorf("stage deletions: %w", err)
	}
	if staged != int64(c.deletions) {
		return fmt.Errorf("stage deletions: %d of %d were staged", staged, c.deletions)
	}
	return nil
}
