// Package verify compares what stands in the tables with what a payer holds, row by row and both ways. The demo and the
// end-to-end tests prove with it that nothing was lost, nothing is extra and nothing was altered.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
)

// Source is what a payer holds: type → id → the line as it was sent.
type Source map[string]map[string][]byte

// Add adds a line; of a repeated id the last one counts.
func (s Source) Add(resourceType, id string, line []byte) {
	if s[resourceType] == nil {
		s[resourceType] = make(map[string][]byte)
	}
	s[resourceType][id] = bytes.Clone(line)
}

// Size is the number of resources.
func (s Source) Size() int {
	n := 0
	for _, resources := range s {
		n += len(resources)
	}
	return n
}

// Querier is what the comparison reads from: a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// maxDifferences bounds what is reported of one type.
const maxDifferences = 5

// Payer compares every row of a payer with the source. It returns the number of rows that are right, by type, and what is
// wrong, in words; the error is a failure to compare.
func Payer(ctx context.Context, db Querier, schema, payer string, want Source) (map[string]int, []string, error) {
	right := make(map[string]int)
	var wrong []string
	for _, resourceType := range fhir.Types() {
		table, _ := fhir.TableName(resourceType)
		name := pgx.Identifier{schema, table}.Sanitize()
		var exists bool
		if err := db.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&exists); err != nil {
			return nil, nil, fmt.Errorf("look for table %s: %w", table, err)
		}
		if !exists {
			if n := len(want[resourceType]); n > 0 {
				wrong = append(wrong, fmt.Sprintf("%s: no table, the payer holds %d", resourceType, n))
			}
			continue
		}
		rows, err := db.Query(ctx, `SELECT id, resource::text FROM `+name+` WHERE payer = $1`, payer)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", table, err)
		}
		seen := 0
		var differences []string
		var id, resource string
		_, err = pgx.ForEachRow(rows, []any{&id, &resource}, func() error {
			seen++
			switch line, ok := want[resourceType][id]; {
			case !ok:
				differences = append(differences, fmt.Sprintf("%s/%s: the payer does not hold it", resourceType, id))
			case !SameJSON(line, []byte(resource)):
				differences = append(differences, fmt.Sprintf("%s/%s: differs from what the payer holds", resourceType, id))
			default:
				right[resourceType]++
			}
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", table, err)
		}
		if n := len(want[resourceType]); seen != n {
			differences = append(differences, fmt.Sprintf("%s: %d rows, the payer holds %d", resourceType, seen, n))
		}
		if len(differences) > maxDifferences {
			differences = append(differences[:maxDifferences], fmt.Sprintf("%s: %d differences in all", resourceType, len(differences)))
		}
		wrong = append(wrong, differences...)
	}
	return right, wrong, nil
}

// Differences counts, by type, what came, changed and went between two states of a payer.
func Differences(old, recent Source) map[string]Change {
	changes := make(map[string]Change)
	for resourceType, resources := range recent {
		c := changes[resourceType]
		for id, line := range resources {
			before, ok := old[resourceType][id]
			switch {
			case !ok:
				c.Inserted++
			case !bytes.Equal(before, line):
				c.Updated++
			}
		}
		changes[resourceType] = c
	}
	for resourceType, resources := range old {
		c := changes[resourceType]
		for id := range resources {
			if _, ok := recent[resourceType][id]; !ok {
				c.Deleted++
			}
		}
		changes[resourceType] = c
	}
	return changes
}

// Change counts what came, changed and went.
type Change struct{ Inserted, Updated, Deleted int64 }

// Plus is the sum of two changes.
func (c Change) Plus(o Change) Change {
	return Change{c.Inserted + o.Inserted, c.Updated + o.Updated, c.Deleted + o.Deleted}
}

// SameJSON compares by value, with numbers compared by their digits: jsonb keeps them, zeros at the end included, which say how precise a
// measurement is; but it writes exponents out, and knows no negative zero.
func SameJSON(a, b []byte) bool {
	var x, y any
	for _, d := range []struct {
		text []byte
		to   *any
	}{{a, &x}, {b, &y}} {
		decoder := json.NewDecoder(bytes.NewReader(d.text))
		decoder.UseNumber()
		if decoder.Decode(d.to) != nil {
			return false
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return false // something stands behind the value
		}
	}
	return sameValue(x, y)
}

func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			other, ok := b[name]
			if !ok || !sameValue(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || sameNumber(string(a), string(b)))
	default:
		return a == b
	}
}

func sameNumber(a, b string) bool {
	if !strings.ContainsAny(a+b, "eE") {
		return isZero(a) && isZero(b) && strings.TrimPrefix(a, "-") == strings.TrimPrefix(b, "-")
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

// isZero reports whether a number without an exponent is zero.
func isZero(number string) bool { return strings.Trim(number, "-0.") == "" }
