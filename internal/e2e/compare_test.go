package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/fhir"
	"ingestd/internal/payersim"
)

// source is what a payer holds: type → id → the line that counts. Of repeated ids the later line counts.
type source map[string]map[string][]byte

func held(t *testing.T, sim *payersim.Server) source {
	t.Helper()
	all := make(source)
	err := sim.Truth(func(resourceType, id string, line []byte) bool {
		if all[resourceType] == nil {
			all[resourceType] = make(map[string][]byte)
		}
		all[resourceType][id] = bytes.Clone(line)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compare compares every row of a payer with the source, both ways: nothing lost, nothing extra, nothing altered.
func (s *site) compare(payer string, want source) {
	s.t.Helper()
	for _, resourceType := range fhir.Types() {
		table, _ := fhir.TableName(resourceType)
		if s.number(`SELECT count(*) FROM pg_class WHERE oid = to_regclass('fhir.' || $1)`, pgx.Identifier{table}.Sanitize()) == 0 {
			if len(want[resourceType]) > 0 {
				s.t.Errorf("%s: no table, want %d rows", resourceType, len(want[resourceType]))
			}
			continue
		}
		rows, err := s.db.Query(s.t.Context(), fmt.Sprintf(`SELECT id, resource::text FROM fhir.%s WHERE payer = $1`,
			pgx.Identifier{table}.Sanitize()), payer)
		if err != nil {
			s.t.Fatal(err)
		}
		seen, wrong := 0, 0
		var id, resource string
		_, err = pgx.ForEachRow(rows, []any{&id, &resource}, func() error {
			seen++
			line, ok := want[resourceType][id]
			switch {
			case !ok:
				wrong++
				s.t.Errorf("%s/%s is extra", resourceType, id)
			case !sameJSON(line, []byte(resource)):
				wrong++
				s.t.Errorf("%s/%s differs:\n%.400s\n%.400s", resourceType, id, line, resource)
			}
			if wrong > 5 {
				return fmt.Errorf("%s: too many differences", resourceType)
			}
			return nil
		})
		if err != nil {
			s.t.Error(err)
		}
		if seen != len(want[resourceType]) {
			s.t.Errorf("%s: %d rows, want %d", resourceType, seen, len(want[resourceType]))
		}
	}
}

// sameJSON compares by value, with numbers compared exactly, as jsonb keeps them.
func sameJSON(a, b []byte) bool {
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
		if !ok {
			return false
		}
		if a == b {
			return true
		}
		x, okX := new(big.Rat).SetString(string(a))
		y, okY := new(big.Rat).SetString(string(b))
		return okX && okY && x.Cmp(y) == 0
	default:
		return a == b
	}
}

func (s source) size() int {
	n := 0
	for _, resources := range s {
		n += len(resources)
	}
	return n
}
