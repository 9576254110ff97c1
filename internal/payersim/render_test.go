package payersim

import (
	"encoding/json"
	"testing"
)

func TestGenerator_writes_claims_of_believable_size(t *testing.T) {
	t.Parallel()
	g := newGenerator(200, 7, 0)
	low, high, total, n := 1<<30, 0, 0, 0
	err := g.write(t.Context(), piece{selection: selection{resourceType: "ExplanationOfBenefit"}, lines: 1 << 30}, func(line []byte) bool {
		low, high = min(low, len(line)), max(high, len(line))
		total += len(line)
		n++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != 200*eobsPerPatient {
		t.Errorf("%d claims for 200 patients, expected %d", n, 200*eobsPerPatient)
	}
	if mean := total / n; mean < 4000 || mean > 8000 {
		t.Errorf("claims have %d bytes on average (%d to %d), expected 4,000 to 8,000", mean, low, high)
	}
	t.Logf("claims: %d to %d bytes, %d on average", low, high, total/n)
}

func TestGenerator_writes_valid_JSON_with_unique_ids_and_references_that_resolve(t *testing.T) {
	t.Parallel()
	g := newGenerator(60, 3, 0.3)
	for range 4 {
		g.advance(baseTime.AddDate(1, 0, g.round()))
	}
	for round := range 5 {
		ids := map[string]bool{}
		var references []string
		eachLine(t, g, round, func(resourceType, id string, line []byte) {
			var resource any
			if err := json.Unmarshal(line, &resource); err != nil {
				t.Fatalf("round %d: %v in %s", round, err, line)
			}
			if ids[resourceType+"/"+id] {
				t.Errorf("round %d: %s/%s appears twice", round, resourceType, id)
			}
			ids[resourceType+"/"+id] = true
			references = appendReferences(references, resource)
		})
		for _, reference := range references {
			if !ids[reference] {
				t.Errorf("round %d: reference to %s, which the payer does not hold", round, reference)
			}
		}
		if len(references) == 0 {
			t.Errorf("round %d: no references at all", round)
		}
	}
}

// appendReferences collects all values of "reference".
func appendReferences(to []string, value any) []string {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if text, ok := member.(string); ok && name == "reference" {
				to = append(to, text)
				continue
			}
			to = appendReferences(to, member)
		}
	case []any:
		for _, element := range v {
			to = appendReferences(to, element)
		}
	}
	return to
}

func BenchmarkRender(b *testing.B) {
	e := newGenerator(1000, 7, 0.1).at(0)
	b.ReportAllocs()
	var buf []byte
	bytes, i := 0, 0
	for b.Loop() {
		i = (i + 1) % e.total(kindEOB)
		l, _ := e.lifeOf(kindEOB, i)
		buf = e.render(buf[:0], kindEOB, i, l)
		bytes += len(buf)
	}
	b.SetBytes(int64(bytes / b.N))
}
